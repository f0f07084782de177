"""The lines of RUN/metrics.jsonl: its fields, and the notes on lines that are damaged or missing."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from lookforward.records import DamagedLine

DAMAGED = "metrics-damaged.jsonl"
_NAMED = 3  # lines or gaps that notes name


def _numbered(row: dict[str, float]) -> dict[str, float]:
    step = row.get("step", 0)
    if step < 1 or step != int(step):
        raise ValueError("step must be a whole number from 1")
    return {**row, "step": int(step)}


LogRow: Any = Annotated[dict[str, float], AfterValidator(_numbered)]
"""A line: "step", and every term by its name. All are finite numbers."""


def log_notes(name: str, steps: Sequence[int], damaged: Sequence[DamagedLine], last: int) -> tuple[str, ...]:
    """Notes on damaged lines, and on steps up to `last` that a log does not have. steps: those it has."""
    notes = [f"{name}, line {one.number}, is kept in {DAMAGED}: {one.problem}" for one in damaged[:_NAMED]]
    if len(damaged) > _NAMED:
        notes.append(f"{len(damaged) - _NAMED} further lines of {name} are kept in {DAMAGED}")
    missing = sorted(set(range(1, last + 1)) - set(steps))
    if missing:
        named = ", ".join(map(str, missing[:_NAMED])) + (" …" if len(missing) > _NAMED else "")
        notes.append(f"{name} lacks {len(missing)} of the {last} steps before this one ({named}): curves have a gap")
    return tuple(notes)
