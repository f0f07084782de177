"""Say what a file or folder is, where it comes from, and whether it is whole."""

from pathlib import Path

import tyro

from lookforward.cli.console import console
from lookforward.errors import LookforwardError
from lookforward.texts import visible

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
    console.print(f"{path} is {found.what}")
    for name, value in found.facts:
        console.print(f"  {name:10} {visible(value)}")
    for check in found.checks:
        where = "" if check.path == path else f" {check.path.relative_to(path)}"
        problems = f": {'; '.join(check.problems)}" if check.problems else ""
        console.print(f"  {'digests':10}{where} {_STATES[check.state]}{problems}")
    if damaged := found.damaged:
        names = ", ".join(str(check.path) for check in damaged)
        raise LookforwardError(f"damaged: {names}. Copy it again, or write it anew.", "damaged")
