"""Metadata of one setting: its default, range and help."""

from dataclasses import dataclass, field
from typing import Any

Need = tuple[str, tuple[object, ...] | str]
"""A setting, or one of FACTS, and the values or the interval of it that another setting needs."""

FACTS = {
    "follows_reward": "a recipe that follows a reward",
    "has_critic_or_direct": "critic.name other than none, or objective.reward_gradient = direct",
    "reward_sees_images": "a reward that looks at images",
}
"""What settings need that is no setting itself, in words."""


_EMPTY = '""'  # text, as TOML writes it


@dataclass(frozen=True)
class Spec:
    """Metadata of one setting, apart from its name, kind and default.

    within: the interval of valid numbers, such as "(0, 1]". machine_only: only place, time and memory depend on
    it, not the result. free: a resumed run may be given another value. of_cell: it may differ between the subjects
    and seeds of one benchmark method. headline: every model card shows it. only_with: what all
    must hold, or else this one changes nothing. choices: the values it can take, if its kind does not say so.
    """

    help: str
    within: str = ""
    machine_only: bool = False
    free: bool = False
    of_cell: bool = False
    headline: bool = False
    only_with: tuple[Need, ...] = ()
    choices: tuple[str, ...] = ()


def setting(default: Any, help: str, within: str = "", **about: Any) -> Any:
    """A field of a group, with its Spec. only_with: a Need, or a tuple of several."""
    machine = about.get("machine_only", False)
    needs = about.get("only_with", ())
    if needs and isinstance(needs[0], str):
        about["only_with"] = (needs,)
    return field(
        default=default, metadata={"spec": Spec(help, within, **{"free": machine, "of_cell": machine, **about})}
    )


def range_in_words(interval: str) -> str:
    """ "(0, inf)" as "greater than 0" and "[2, inf)" as "at least 2"; a bounded one as "in (0, 1]"."""
    low, high = interval[1:-1].split(", ")
    if high != "inf":
        return f"in {interval}"
    return f"{'greater than' if interval[0] == '(' else 'at least'} {low}"


def in_words(need: Need, mark: str = "") -> str:
    """ "critic.name = residual or state-action". mark: around names and values, as Markdown's."""
    name, wanted = need
    if name in FACTS:
        return FACTS[name]
    if isinstance(wanted, str):
        return f"{mark}{name}{mark} {range_in_words(wanted)}"
    return f"{mark}{name}{mark} = " + " or ".join(f"{mark}{str(one).lower() or _EMPTY}{mark}" for one in wanted)
