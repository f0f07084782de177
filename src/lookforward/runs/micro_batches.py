"""RUN/micro-batches.json: the steps from which on a run works in smaller micro-batches, since memory was short."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lookforward.errors import LookforwardError, warn
from lookforward.files import read_json, write_json

MICRO_BATCHES = "micro-batches.json"


@dataclass(frozen=True)
class Change:
    """From `step` on a batch is cut into so many micro-batches."""

    step: int
    micro_batches: int


def read_micro_batches(folder: Path) -> dict[int, int]:
    """From each such step to its micro-batches; empty where there is none. Warns of a file that is damaged."""
    path = folder / MICRO_BATCHES
    if not path.is_file():
        return {}
    try:
        found = {change.step: change.micro_batches for change in read_json(path, list[Change])}
        if any(step < 1 or parts < 2 for step, parts in found.items()):
            raise LookforwardError(f"{path} is damaged: a step or a number of micro-batches is out of range.")
    except LookforwardError as error:
        warn(f"{error} It is passed over: a step that runs out of memory is cut again.")
        return {}
    return found


def write_micro_batches(folder: Path, smaller: Mapping[int, int]) -> None:
    """Write them where they are not written yet. Raises LookforwardError if they cannot be."""
    if smaller and read_micro_batches(folder) != smaller:
        write_json(folder / MICRO_BATCHES, [vars(Change(step, parts)) for step, parts in sorted(smaller.items())])
