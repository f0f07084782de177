"""Metrics and samples of a run in TensorBoard or Weights & Biases, through accelerate's trackers.

metrics.jsonl stays the record; a tracker shows the same numbers in another program.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from PIL import Image

from lookforward.config.reading import to_toml
from lookforward.core.types import StepResult
from lookforward.errors import LookforwardError
from lookforward.files import REMEDY, writing
from lookforward.runs.folder import Run

PROJECT = "lookforward"
_TITLES = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}


def require_tracker(name: str) -> None:
    """Raise LookforwardError, with the pip command, where the package of a tracker is missing."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise LookforwardError(
            f"run.report_to = {name} needs the package {name}, which is not installed. Run `pip install {name}`.",
            code="package-missing",
        )


class Tracking:
    """The tracker of one run; of a run without one, it does nothing."""

    def __init__(self, tracker: GeneralTracker | None) -> None:
        self._tracker = tracker

    def show(self, result: StepResult, measured: Mapping[str, float], run: Run) -> None:
        """Show what a step did, what was measured after it, and its sheet of samples, if there is one."""
        tracker: Any = self._tracker
        step = result.step
        if tracker is None:
            return
        shown = {f"train/{name}": value for name, value in result.terms.items()}
        shown |= {f"evaluation/{name}": value for name, value in measured.items()}
        tracker.log(shown | {"train/seconds": result.seconds}, step)
        sheet = run.sample_sheet(step)
        if sheet.is_file():
            with Image.open(sheet) as image:
                pixels = np.asarray(image.convert("RGB"))[None]  # (1, h, w, 3) uint8
            kind: dict[str, Any] = {"dataformats": "NHWC"} if isinstance(tracker, TensorBoardTracker) else {}
            tracker.log_images({"samples": pixels}, step, **kind)


@contextmanager
def tracking(run: Run, step: int) -> Iterator[Tracking]:
    """The tracker that `run.report_to` names, while the context lasts. step: how many steps are done.

    TensorBoard's files are in RUN/tensorboard, those of Weights & Biases in RUN/wandb. Lines of later steps, which
    will be taken again, are hidden by TensorBoard; Weights & Biases keeps the first it was sent.

    Raises:
        LookforwardError: the tracker cannot be started.
    """
    tracker = _start(run, step)
    try:
        yield Tracking(tracker)
    finally:
        if tracker is not None:
            tracker.finish()


def _start(run: Run, step: int) -> GeneralTracker | None:
    name = run.settings.run.report_to
    if name == "none":
        return None
    require_tracker(name)
    try:
        with writing(run.folder, REMEDY):
            tracker = _tensorboard(run, step) if name == "tensorboard" else _wandb(run)
            tracker.start()
    except LookforwardError:
        raise
    except Exception as error:
        raise LookforwardError(
            f"{_TITLES[name]} cannot be started ({error}): mend that, or train with --run.report-to none. The run goes "
            "on from its last checkpoint.",
            code="tracker",
        ) from error
    if step == 0:
        if isinstance(tracker, TensorBoardTracker):
            tracker.log({"settings": f"```toml\n{to_toml(run.settings)}\n```"}, 0)
        else:
            tracker.store_init_configuration(run.settings.flat())
    return tracker


def _tensorboard(run: Run, step: int) -> TensorBoardTracker:
    return TensorBoardTracker("tensorboard", run.folder, purge_step=step + 1 if step else None)


def _wandb(run: Run) -> WandBTracker:
    place: Any = {"dir": str(run.folder)}
    identity = hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:16]  # the same when the run goes on
    return WandBTracker(PROJECT, name=run.folder.name, id=identity, resume="allow", **place)
