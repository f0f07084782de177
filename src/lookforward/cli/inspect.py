"""Say what a file or folder is, where it comes from, and whether it is whole."""

from pathlib import Path

import tyro

from lookforward.cli.console import console
from lookforward.errors import LookforwardError

_STATES = {
    "whole": "whole",
    "edited": "whole, but its card was edited",
    "damaged": "DAMAGED",
    "unknown": "no digests, so that damage cannot be noticed",
}


def inspect(path: tyro.conf.Positional[Path]) -> None:
    """Say what an image, run, export or checkpoint is, where it comes from, and whether it is whole.

    Reads an image's metadata and invisible watermark, and checks every digest. Exits with 2 if something is damaged.

    Args:
        path: Image, run folder, export, checkpoint, or another file or folder that lookforward wrote.
    """
    from lookforward.exports.inspection import inspect as look

    found = look(path)
    console.print(_printable(f"{path} is {found.what}"))
    for name, value in found.facts:
        console.print(_printable(f"  {name:10} {value}"))
    for check in found.checks:
        where = "" if check.path == path else f" {check.path.relative_to(path)}"
        problems = f": {'; '.join(check.problems)}" if check.problems else ""
        console.print(_printable(f"  {'digests':10}{where} {_STATES[check.state]}{problems}"))
    if damaged := found.damaged:
        names = ", ".join(str(check.path) for check in damaged)
        raise LookforwardError(f"damaged: {_printable(names)}. Copy it again, or write it anew.", "damaged")


def _printable(text: str) -> str:
    """A line without control characters, which metadata may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
