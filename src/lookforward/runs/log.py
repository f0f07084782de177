"""The lines of RUN/metrics.jsonl: its fields, going back to a step, and notes on lines that are damaged or
missing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from lookforward.files import write_text
from lookforward.records import DamagedLine, check_json_lines, read_bytes
from lookforward.seals import sealed_json

DAMAGED = "metrics-damaged.jsonl"
_NAMED = 3  # lines or gaps that notes name


def _numbered(row: dict[str, float]) -> dict[str, float]:
    step = row.get("step", 0)
    if step < 1 or step != int(step):
        raise ValueError("step must be a whole number from 1")
    return {**row, "step": int(step)}


LogRow: Any = Annotated[dict[str, float], AfterValidator(_numbered)]
"""A line: "step", and every term by its name. All are finite numbers."""


def forget_after(log: Path, step: int) -> tuple[str, ...]:
    """Delete the lines of steps after `step`; returns notes. Lines that cannot be read are kept beside the log.

    Raises:
        LookforwardError: the log cannot be read or written.
    """
    if not log.is_file():
        return ()
    rows, damaged = check_json_lines(log, LogRow)
    if damaged:
        kept = log.with_name(DAMAGED)
        before = read_bytes(kept).decode("utf-8", "backslashreplace") if kept.is_file() else ""
        write_text(kept, before + "".join(one.text.rstrip("\r\n") + "\n" for one in damaged))
    write_text(log, "".join(sealed_json(row) + "\n" for row in rows if row["step"] <= step))
    return log_notes(log.name, [int(row["step"]) for row in rows], damaged, step)


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
