"""Runs of the tiny model: their settings, what came of them, and what other processes do with them.

Processes are forked from a server that has imported everything once, so that one costs a second, not ten.
"""

import io
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_HANDLERS = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL, signal.SIGTERM: signal.SIG_DFL}
Command = Callable[..., tuple[int, str, str]]
SETTINGS: dict[str, Any] = {
    "run.steps": 6,
    "data.resolution": 32,
    "optimizer.learning_rate": 1e-3,
    "data.class_images": 2,
    "data.class_image_steps": 2,
    "evaluation.sampler_steps": 2,
    "evaluation.sample_every": 3,
    "run.checkpoint_every": 2,
}
_WRITING = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of the command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def exported(folder: Path) -> dict[str, bytes]:
    """Every exported file of a run, by name."""
    root = folder / "export"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without the seconds that no two runs share and the seal over them."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "crc32")} for row in rows]


def tree(folder: Path) -> dict[str, bytes]:
    """All files under a folder, by name; folders too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def server() -> ForkServerContext:
    """Starts processes that have imported the package; it computes on one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lookforward.api", "lookforward.cli"])
    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parent
        patch.setenv("PYTHONPATH", os.pathsep.join([str(here.parent / "src"), str(here)]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        patch.setenv("TRANSFORMERS_VERBOSITY", "error")
        # Tests may run where signals are ignored, as under nohup; what they start must not
        before = {one: signal.signal(one, handler) for one, handler in _HANDLERS.items()}
        multiprocessing.forkserver.ensure_running()  # pyright: ignore[reportAttributeAccessIssue]
        for one, handler in before.items():
            signal.signal(one, handler)
    return context


def start(context: ForkServerContext, arguments: list[str], **options: Any) -> ForkServerProcess:
    """Run `lookforward ARGUMENTS` in a process; for the options, see `_main`."""
    process = context.Process(target=_main, args=(arguments,), kwargs=options, daemon=True)
    process.start()
    return process


def _main(
    arguments: list[str],
    *,
    cache: Path | None = None,
    watched: Path | None = None,
    die_before: int = 0,
    count_into: Path | None = None,
    largest_file: int = 0,
    errors: Connection | None = None,
) -> None:
    """The command line, in a process that is to be thrown away.

    cache: folder for class images; watched: folder whose changes are counted; die_before: the change before
    which the process kills itself;
    count_into: file for their number; largest_file: bytes beyond which the system refuses to write;
    errors: takes what was said on stderr.
    """
    from lookforward.cli import main

    if cache is not None:
        os.environ["LOOKFORWARD_CACHE"] = str(cache)
    for one, handler in _HANDLERS.items():
        signal.signal(one, handler)
    said = sys.stderr = io.StringIO()
    changes = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal changes
        opened = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in _WRITING or opened) and str(watched) in str(details[0]):
            changes += 1
            if changes == die_before:
                os.kill(os.getpid(), signal.SIGKILL)

    if watched is not None:
        sys.addaudithook(watch)
    if largest_file:
        sys.stdout = io.StringIO()  # or a file that holds it would be full first
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        main(arguments)
    finally:
        if errors is not None:
            errors.send(said.getvalue())
    if count_into is not None:
        count_into.write_text(str(changes))


def draw_class_images(
    pipeline: Any, prompt: str, count: int, *, steps: int, guidance: float, resolution: int, draw: Any = None
) -> np.ndarray:
    """Class images of a pipeline, as a run asks for them. draw: in place of `draw_images`."""
    from lookforward.data.class_images import class_images
    from lookforward.models.sampling import draw_images, fingerprint

    call = partial(draw or draw_images, pipeline, steps=steps, guidance=guidance, resolution=resolution)
    return class_images(call, prompt, count, resolution=resolution, key=f"{fingerprint(pipeline)}|{steps}|{guidance}")


def save_class_images(cache: Path, model: Path, result: Path, count: int, settings: Mapping[str, Any]) -> None:
    """Class images of a model into a file, in a process that is to be thrown away."""
    from lookforward.models.load_pipeline import load_pipeline

    os.environ["LOOKFORWARD_CACHE"] = str(cache)
    np.save(result, draw_class_images(load_pipeline(model), "a photo of dog", count, **settings))
