"""What a picture of the world shows, as labels in groups: the judge answers one of each group."""

from collections.abc import Mapping
from typing import Any

from lookforward_toybox.world.outfits import OUTFITS
from lookforward_toybox.world.picture import LOOKS
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import BODY_COLOURS, CLASSES

NONE = "none"
_VALUES: dict[str, tuple[str, ...]] = {
    "class_noun": CLASSES,
    "scene": tuple(SCENES),
    "colour": BODY_COLOURS,
    "outfit": (NONE, *OUTFITS),
    "look": (NONE, *LOOKS),
}
LABELS = tuple(f"{group}: {value}" for group, values in _VALUES.items() for value in values)


def _groups() -> dict[str, slice]:
    groups, start = {}, 0
    for group, values in _VALUES.items():
        groups[group] = slice(start, start + len(values))
        start += len(values)
    return groups


GROUPS = _groups()  # where each group lies among LABELS


def label_ids(fact: Mapping[str, Any]) -> list[int]:
    """For each group, which of its values `fact` (a record of subjects.json) has; without an accessory: "none"."""
    return [values.index(fact[group] or NONE) for group, values in _VALUES.items()]
