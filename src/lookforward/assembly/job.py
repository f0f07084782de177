"""The training of one run, from its first step, or the last checkpoint, to its export."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from diffusers import StableDiffusionPipeline

from lookforward.algorithm.trainer import train
from lookforward.assembly.milestones import export_step, keep_milestones
from lookforward.assembly.run import RunComponents, build
from lookforward.config.settings import Settings
from lookforward.core.types import StepResult
from lookforward.data.subject import Subject
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward.runs.folder import prepare


class TrainingJob:
    """The training of one run: iterate over it to train; when that ends, the export is written.

    folder: of the run, new or to continue. pipeline: the untouched model if it is loaded already; its weights
    are trained in place.

    Raises:
        LookforwardError: `folder` holds another run or something else, or cannot be written.
    """

    def __init__(
        self, folder: Path, settings: Settings, subject: Subject, pipeline: StableDiffusionPipeline | None = None
    ) -> None:
        self._digests = subject.digests
        self.run, self.subject = prepare(folder, settings, self._digests), subject
        self.notes: tuple[str, ...] = subject.notes
        self.resumed_at = 0
        self._pipeline = pipeline

    def __iter__(self) -> Generator[StepResult]:
        """Yields each step that was missing, after it was logged and, where due, saved."""
        run, settings = self.run, self.run.settings
        if self._finished():
            return
        components = build(settings, self.subject, self._pipeline)
        self.notes = components.notes
        with run.hold():  # not earlier: what cannot be built leaves no run behind
            if self._finished():
                return
            run.begin(self._digests)
            yield from self._train(components)

    def _finished(self) -> bool:
        """Whether the run is; raises where another process began another one in its folder meanwhile."""
        return prepare(self.run.folder, self.run.settings, self._digests).finished

    def _train(self, components: RunComponents) -> Iterator[StepResult]:
        run, settings, trainer = self.run, self.run.settings, components.trainer
        load_newest(trainer, run.checkpoints, components.model_hash)
        self.resumed_at = trainer.step
        run.forget_after(trainer.step)
        keep_milestones(components, run, self.subject, trainer.step)  # if it was stopped after the checkpoint, before
        for result in train(trainer, settings.run.steps):
            run.log({"step": result.step, **result.terms, "seconds": round(result.seconds, 4)})
            due = result.step == settings.run.steps or result.step % settings.run.checkpoint_every == 0
            if due:
                save_checkpoint(trainer, run.checkpoints, components.model_hash)
            keep_milestones(components, run, self.subject, result.step)
            yield replace(result, checkpoint=due)
        export_step(components, run, self.subject, settings.run.steps, run.export)


def default_output(settings: Settings) -> Path:
    """runs/<name of the photos' folder>-<recipe>, and -<adapter> behind it unless that is full."""
    name = Path(settings.subject.photos.split(", ")[0]).resolve().name.removesuffix(".toml") or "photos"
    # A run folder belongs to one adapter
    adapter = "" if settings.adapter.name == "full" else f"-{settings.adapter.name}"
    return Path("runs") / f"{name}-{Path(settings.run.recipe).stem}{adapter}"
