"""`lookforward COMMAND …`: find the command, run it, and report errors in one message."""

import ast
import difflib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from lookforward import stopping
from lookforward.bundle import TOYBOX, command_files, require_bundle
from lookforward.errors import LookforwardError, LookforwardWarning, is_out_of_memory, out_of_memory
from lookforward.launch import end_others, process_count, speaks_for_all
from lookforward.texts import MOST_OF_MESSAGE, keep_streams_open, visible

COMMANDS = {  # to the module below lookforward.cli, imported only when it is needed; or TOYBOX, which brings it along
    "train": "train",
    "masks": "masks",
    "generate": "generate",
    "score": "score",
    "inspect": "inspect",
    "export": "export",
    "merge": "export",
    "push": "push",
    "compare": TOYBOX,
    "ablate": TOYBOX,
    "benchmark": "benchmark",
    "judge": "judge",
    "report": "report",
    "studio": "studio",
    "demo": TOYBOX,
    "pretrain-encoder": TOYBOX,
}
COMMAND_GROUPS = {  # of commands, with a line about each and the module of each command
    "study": (
        "A blind study: people compare images of two methods.",
        {"create": "study", "serve": "study", "report": "study"},
    ),
}
Command = Callable[..., Any]

_TAKE_LESS = {
    "train": "Reduce memory with --model.gradient-checkpointing, --adapter lora, --adapter.no-train-text-encoder, "
    "--precision bf16, a lower --resolution or --batch-size; or --device cpu.",
    "generate": "Generate fewer images at once (one PROMPT with --count 1), or use a lower --resolution.",
}
_NO_MEMORY = 4  # exit status
_USE_LESS = "Close other programs that use it, or choose a smaller model or resolution."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 0, with 2 if the request was wrong, 3 if parts of it failed, 4 if memory ran out,
    128 + a signal.
    """
    _quiet_libraries()
    keep_streams_open()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with stopping.listening():
        _main(words)


def _quiet_libraries() -> None:
    """Keep what libraries say of themselves, about kernels of other machines and their own future, off the terminal."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _main(words: list[str]) -> None:
    show = warnings.showwarning
    try:
        _require_shareable(words)
        warnings.showwarning = partial(_show_note, show)
        if words[:1] == ["toybox"]:
            _run(require_bundle().commands(), words[1:], "lookforward toybox")
        elif words[:1] and words[0] in COMMAND_GROUPS:
            _run(COMMAND_GROUPS[words[0]][1], words[1:], f"lookforward {words[0]}")
        else:
            _run(COMMANDS, words, "lookforward")
    except LookforwardError as error:
        _exit(_NO_MEMORY if is_out_of_memory(error) else 2, str(error))
    except stopping.Stopped as stopped:
        _exit(128 + stopped.number, stopped.message or "stopped. Run the same command again to continue.")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        _exit(130, "stopped. Run the same command again to continue.")
    except Exception as error:
        if is_out_of_memory(error):
            _exit(_NO_MEMORY, f"{out_of_memory('', error)} {_TAKE_LESS.get(words[0], _USE_LESS)}")
        if process_count() > 1:
            if speaks_for_all():
                traceback.print_exc()
                end_others()
            _leave(1)
        raise
    finally:
        warnings.showwarning = show


def _show_note(show: Callable[..., None], message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
    """A warning for the user is a note on one line; others are shown as Python does."""
    if not issubclass(category, LookforwardWarning):
        show(message, category, *where, **more)
    elif os.environ.get("RANK", "0") == "0":
        print(f"Note: {message}", file=sys.stderr)


def find_command(name: str, module: str = "") -> Command:
    """The function of a command. module: that of a command of a group."""
    module = module or COMMANDS[name]
    if module == TOYBOX:
        return require_bundle().comparisons()[name]
    return getattr(import_module(f"lookforward.cli.{module}"), name)


def _run(commands: Mapping[str, str | Command], words: Sequence[str], prog: str) -> None:
    if not words or words[0] in ("-h", "--help"):
        _print_overview(commands, prog)
        return
    if words[0] == "--version":
        print(f"lookforward {import_module('lookforward').__version__}")
        return
    name, *rest = words
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"`{prog} --help` lists the commands."
        raise LookforwardError(f"{prog} has no command {name!r}. {hint}", code="command-unknown")
    import tyro

    from lookforward.cli.once import check_given_once, check_switches

    check_given_once(rest, repeatable={"adapter.name"} if name == "generate" else ())
    check_switches(rest)
    found = commands[name]
    tyro.cli(find_command(name, found) if isinstance(found, str) else found, prog=f"{prog} {name}", args=rest)


def _print_overview(commands: Mapping[str, str | Command], prog: str) -> None:
    lines = {name: summary(name, found) for name, found in commands.items() if found != TOYBOX or command_files()}
    if commands is COMMANDS:
        lines |= {name: line for name, (line, _) in COMMAND_GROUPS.items()}
        lines["toybox"] = "The bundled model: photos of its subjects, measurements, training."
    print(f"usage: {prog} COMMAND …\n\nPersonalise a text-to-image model with a few photos of your subject.\n")
    for name, line in lines.items():
        print(f"  {name:16} {line}")
    print(f"\n`{prog} COMMAND --help` lists the options of a command; `lookforward --version` prints the version.")


def summary(name: str, command: str | Command) -> str:
    """The first line of a command's help. It is read from the source where importing the module would take longer."""
    if not isinstance(command, str):
        return (command.__doc__ or "").strip().split("\n")[0]
    files = command_files() if command == TOYBOX else (Path(__file__).parent / f"{command}.py",)
    nodes = (node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body)
    function = next(x for x in nodes if isinstance(x, ast.FunctionDef) and x.name == name.replace("-", "_"))
    return (ast.get_docstring(function) or "").split("\n")[0]


def _require_shareable(words: Sequence[str]) -> None:
    if process_count() > 1 and words[:1] != ["train"]:
        raise LookforwardError(
            f"only train runs on several processes: start {' '.join(words[:1]) or 'this'} without a launcher.",
            code="processes-command",
        )


def _exit(status: int, message: str) -> None:
    if speaks_for_all():
        print(f"lookforward: {visible(message, MOST_OF_MESSAGE, lines=True)}", file=sys.stderr, flush=True)
        if process_count() > 1 and status < 128:  # after a stop, which all know of, the others save
            end_others()
    _leave(status)


def _leave(status: int) -> None:
    if process_count() > 1:  # not by way of torch, which would wait for processes that have ended
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
