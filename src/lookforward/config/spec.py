"""What is known about one setting: its default, range and help, declared where its group is."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spec:
    """What is known about one setting beside its name, kind and default.

    within: the interval that numbers lie in, as in mathematics. machine_only: only place, time and memory depend on
    it, not the result. free: a resumed run may be given another value. of_cell: it may differ between the subjects
    and seeds of one benchmark method. headline: every model card shows it. only_with: a setting, and the values of it
    without which this one changes nothing. choices: the values it can take, if its kind does not say so.
    """

    help: str
    within: str = ""
    machine_only: bool = False
    free: bool = False
    of_cell: bool = False
    headline: bool = False
    only_with: tuple[str, tuple[object, ...]] | None = None
    choices: tuple[str, ...] = ()


def setting(default: Any, help: str, within: str = "", **about: Any) -> Any:
    machine = about.get("machine_only", False)
    return field(
        default=default, metadata={"spec": Spec(help, within, **{"free": machine, "of_cell": machine, **about})}
    )
