"""`lookforward COMMAND …`: parse, run, and tell errors in one message."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from lookforward.bundle import require_bundle
from lookforward.cli.ablate import ablate
from lookforward.cli.benchmark import benchmark
from lookforward.cli.compare import compare, demo
from lookforward.cli.personalise import score, train
from lookforward.cli.report import report
from lookforward.cli.use import export, generate, merge
from lookforward.errors import LookforwardError


def _toybox() -> None:
    """The bundled world and its models: photos, sheet, samples, check, curves, draw, train."""
    _run(require_bundle().commands(), ["--help"], "lookforward toybox")


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "generate": generate,
    "score": score,
    "export": export,
    "merge": merge,
    "compare": compare,
    "ablate": ablate,
    "benchmark": benchmark,
    "report": report,
    "demo": demo,
    "toybox": _toybox,
}


_TAKE_LESS = {
    "train": "Take less: --set model.gradient_checkpointing=true, --adapter lora, "
    "--set adapter.train_text_encoder=false, --precision bf16, a lower --resolution or batch size; "
    "or --set model.device=cpu.",
    "generate": "Draw fewer at once, one PROMPT with --count 1, or a lower --resolution.",
}
_TAKE_ANY = "Close what else uses it, or take a smaller model or resolution."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 0, with 2 where something was wrong with what was asked for, or 3 for parts of it."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if words[0] == "toybox":  # commands of its own: tyro's dictionaries do not nest
            _run(require_bundle().commands(), words[1:] or ["--help"], "lookforward toybox")
        else:
            _run(COMMANDS, words, "lookforward")
    except LookforwardError as error:
        print(f"lookforward: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, without loading torch for it
            raise
        print(
            f"lookforward: the accelerator's memory is too small for this. {_TAKE_LESS.get(words[0], _TAKE_ANY)} "
            f"({str(error).splitlines()[0]})",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "\nlookforward: stopped. Given again, the same command goes on from what it has saved.",
            file=sys.stderr,
        )
        sys.exit(130)


def _run(commands: Mapping[str, Callable[..., Any]], words: list[str], name: str) -> None:
    tyro.extras.subcommand_cli_from_dict(
        dict(commands),
        prog=name,
        description="Teach a text-to-image model your subject from a handful of photos.",
        args=words,
        config=(tyro.conf.OmitArgPrefixes,),
    )
