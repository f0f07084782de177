"""What a picture of the world shows, as labels in groups: the judge answers one of each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookforward_toybox.world.outfits import OUTFITS
from lookforward_toybox.world.picture import LOOKS
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import BODY_COLOURS, CLASSES, EMBLEMS

NONE = "none"


def find_groups(labels: Sequence[str]) -> dict[str, slice]:
    """Where each group lies among labels such as "scene: beach", whose groups follow one another."""
    groups: dict[str, slice] = {}
    for i, label in enumerate(labels):
        name = label.split(": ", 1)[0]
        groups[name] = slice(groups[name].start if name in groups else i, i + 1)
    return groups


@dataclass(frozen=True)
class LabelSet:
    """The groups of labels that a judge knows, and their values."""

    values: Mapping[str, tuple[str, ...]]

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, "group: value"."""
        return tuple(f"{group}: {value}" for group, values in self.values.items() for value in values)

    def ids(self, fact: Mapping[str, Any]) -> list[int]:
        """For each group, which of its values `fact` (a record of subjects.json) has; without an accessory: "none"."""
        return [values.index(fact[group] or NONE) for group, values in self.values.items()]


BASE = LabelSet(
    {
        "class_noun": CLASSES,
        "scene": tuple(SCENES),
        "colour": BODY_COLOURS,
        "outfit": (NONE, *OUTFITS),
        "look": (NONE, *LOOKS),
    }
)
WITH_EMBLEM = LabelSet({**BASE.values, "emblem": EMBLEMS, "emblem_colour": BODY_COLOURS})
LABELS = BASE.labels
GROUPS = find_groups(LABELS)  # where each group lies among LABELS
label_ids = BASE.ids
