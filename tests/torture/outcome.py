"""What came of each try, and the table of all."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MARKS = "<!-- torture -->\n", "\n<!-- end of torture -->"


@dataclass(frozen=True)
class Outcome:
    """What came of one try.

    fault: the row of the table. noticed: a message names the fault, or nothing differs from a run without it. survived:
    the next command goes on to the right result, or the fault is refused and all else is as it was. lost: more is gone
    than one checkpoint interval, or the result differs. traceback: instead of a message. note: for who repairs it.
    """

    fault: str
    noticed: bool = True
    survived: bool = True
    lost: bool = False
    traceback: bool = False
    note: str = ""

    @property
    def good(self) -> bool:
        return self.noticed and self.survived and not self.lost and not self.traceback


def table(outcomes: Sequence[Outcome]) -> str:
    """The table, in Markdown."""
    lines = ["| fault | tries | noticed | survived | lost | tracebacks |", "|---|---|---|---|---|---|"]
    names = list(dict.fromkeys(one.fault for one in outcomes))
    lines += [_row(name, [one for one in outcomes if one.fault == name]) for name in names]
    lines.append(_row("**all**", outcomes))
    return "\n".join(lines)


def put_between(page: Path, text: str) -> None:
    """Replace what stands between the MARKS of a page. Raises ValueError where it has none."""
    before, after = (re.escape(mark) for mark in MARKS)
    between, whole = re.compile(f"(?<={before}).*?(?={after})", re.DOTALL), page.read_text(encoding="utf-8")
    if not between.search(whole):
        raise ValueError(f"{page} has no lines {MARKS[0].strip()} and {MARKS[1].strip()}")
    page.write_text(between.sub(lambda _: text, whole, count=1), encoding="utf-8")


def problems(outcomes: Iterable[Outcome]) -> list[str]:
    """What is wrong with each try that is not good."""
    return [f"{one.fault}: {_what(one)}: {one.note}" for one in outcomes if not one.good]


def _what(one: Outcome) -> str:
    found = {"not noticed": not one.noticed, "not survived": not one.survived, "lost": one.lost}
    return ", ".join(name for name, holds in (found | {"traceback": one.traceback}).items() if holds)


def _row(name: str, of_it: Sequence[Outcome]) -> str:
    noticed, survived = sum(one.noticed for one in of_it), sum(one.survived for one in of_it)
    lost, tracebacks = sum(one.lost for one in of_it), sum(one.traceback for one in of_it)
    return f"| {name} | {len(of_it):,} | {noticed:,} | {survived:,} | {lost} | {tracebacks} |"
