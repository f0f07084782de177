"""`lookforward COMMAND …`: parse, run, and tell errors in one message."""

import os
import sys
from collections.abc import Sequence

import tyro

from lookforward.cli import toybox
from lookforward.cli.compare import compare, demo
from lookforward.cli.personalise import generate, score, train
from lookforward.errors import LookforwardError

COMMANDS = {
    "train": train,
    "generate": generate,
    "score": score,
    "compare": compare,
    "demo": demo,
    "toybox": {
        "photos": toybox.photos,
        "draw": toybox.draw,
        "train": toybox.train_stage,
        "export": toybox.export_stage,
        "check": toybox.check,
        "sheet": toybox.sheet,
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 0, or with 2 where something was wrong with what was asked for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,  # pyright: ignore[reportArgumentType]
            prog="lookforward",
            description="Teach a text-to-image model your subject from a handful of photos.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except LookforwardError as error:
        print(f"lookforward: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nlookforward: stopped. Give the same command again to go on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)
