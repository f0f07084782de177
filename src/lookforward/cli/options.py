"""The settings of a run as options of the command line: `--critic.weight 0.5`, and short ones such as `--steps`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import tyro

from lookforward.config.settings import FIELDS, GROUPS, SHORT, Field
from lookforward.rewards import REWARDS
from lookforward.scores import SCORES

_SHORT = {name: short for short, name in SHORT.items()}
_OF_A_GRID = {
    "subject.photos", "subject.class_noun", "subject.others", "model.name", "model.revision", "model.device",
    "run.recipe", "run.seed",
}  # fmt: skip


_FUNCTION = "MODULE:FUNCTION"
_EXTRA = "|".join([*(spec.name for spec in SCORES if spec.on_request), _FUNCTION])
ExtraScores = Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"[{{{_EXTRA}}} ...]")]
"""Names of scores that are computed only on request."""


def _options(left_out: Collection[str]) -> Any:
    """A type whose values hold the settings that were given, and no others, in nested dictionaries."""
    groups = {}
    for group, kind in GROUPS.items():
        fields = {one.key: _option(one) for one in FIELDS.values() if one.group == group and one.name not in left_out}
        if fields:
            made = TypedDict(group, fields, total=False)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
            groups[group] = Annotated[made, tyro.conf.arg(help=(kind.__doc__ or "").strip())]
    made = TypedDict("settings", groups, total=False)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    return Annotated[made, tyro.conf.arg(name="")]


def _option(one: Field) -> Any:
    short = _SHORT.get(one.name)
    return Annotated[
        one.kind,
        tyro.conf.arg(
            help=one.spec.help,
            metavar=_metavar(one),
            help_behavior_hint=f"(default: {shown_default(one)})",
            aliases=(f"--{short.replace('_', '-')}",) if short else None,
        ),
    ]


def _metavar(one: Field) -> str | None:
    """What help shows in the place of a value, if its kind does not say which values there are."""
    names = one.spec.choices
    if one.name == "objective.reward":
        names = (*(spec.written for spec in REWARDS), _FUNCTION)
    return "{" + ",".join(names) + "}" if names else None


def shown_default(one: Field) -> str:
    """A default as help and docs show it."""
    if isinstance(one.default, bool):
        return "on" if one.default else "off"
    return "empty" if one.default == "" else str(one.default)


if TYPE_CHECKING:
    RunOptions = GridOptions = dict[str, Any]
else:
    RunOptions = _options(("subject.photos", "run.recipe"))
    """Options of a training run."""
    GridOptions = _options(_OF_A_GRID)
    """Options that all methods of a comparison share."""
