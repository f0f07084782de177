"""The training of one run, from its first step or its last checkpoint to its export."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from lookforward.algorithm.trainer import Trainer, train
from lookforward.config.settings import Settings
from lookforward.core.types import StepResult
from lookforward.data.subject import Subject
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward.runs.folder import Run, prepare


class Components(Protocol):
    """What a job needs of the objects of a run. notes: sentences for the user. model_hash: of the untouched model."""

    @property
    def trainer(self) -> Trainer: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def model_hash(self) -> str: ...


C = TypeVar("C", bound=Components)


@dataclass
class TrainingJob(Generic[C]):
    """Iterate over it to train; when the iteration ends, the export is written.

    folder: of the run, new or to continue. build: makes the run's components, once the folder is known to be free.
    keep: writes what a step leaves, such as samples, unless it is there already. export: writes the final result.
    notes: for the user. resumed_at: the step of the checkpoint that training continued from.

    Raises:
        LookforwardError: `folder` is another run or has other files, or cannot be written.
    """

    folder: Path
    settings: Settings
    subject: Subject
    build: Callable[[], C]
    keep: Callable[[C, Run, int], None]
    export: Callable[[C, Run], None]
    run: Run = field(init=False)
    notes: tuple[str, ...] = field(init=False)
    resumed_at: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.run, self.notes = self._prepare(), self.subject.notes

    def __iter__(self) -> Generator[StepResult]:
        """Yield each missing step after it was logged and, where due, saved."""
        if self._prepare().finished:
            return
        components = self.build()
        self.notes = components.notes
        with self.run.hold():  # after building, so that what cannot be built leaves no run behind
            if self._prepare().finished:
                return
            self.run.make_longer()
            self.run.begin(self.subject.digests)
            yield from self._train(components)

    def _prepare(self) -> Run:
        """Raises if another process began another run in the folder meanwhile."""
        return prepare(self.folder, self.settings, self.subject.digests)

    def _train(self, components: C) -> Iterator[StepResult]:
        run, trainer, asked = self.run, components.trainer, self.settings.run
        load_newest(trainer, run.checkpoints, components.model_hash)
        self.resumed_at = trainer.step
        run.forget_after(trainer.step)
        self.keep(components, run, trainer.step)  # if the process was stopped between the checkpoint and this
        for result in train(trainer, asked.steps):
            run.log({"step": result.step, **result.terms, "seconds": round(result.seconds, 4)})
            due = result.step == asked.steps or result.step % asked.checkpoint_every == 0
            if due:
                save_checkpoint(trainer, run.checkpoints, components.model_hash)
            self.keep(components, run, result.step)
            yield replace(result, checkpoint=due)
        self.export(components, run)
