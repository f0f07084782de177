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
Contra = TypeVar("Contra", bound=Components, contravariant=True)


class Keeper(Protocol[Contra]):
    """What a run leaves beside its checkpoints."""

    def keep(self, components: Contra, run: Run, step: int) -> dict[str, float]:
        """Write what a step leaves, such as samples, unless it is there already; returns what was measured of it."""
        ...

    def forget_after(self, components: Contra, run: Run, step: int) -> None:
        """Take back what steps after `step` left that they will leave again."""
        ...

    def enough(self, components: Contra, run: Run) -> bool:
        """Whether more steps no longer gain."""
        ...

    def export(self, components: Contra, run: Run) -> None:
        """Write the final result."""
        ...


@dataclass
class TrainingJob(Generic[C]):
    """Iterate over it to train; when the iteration ends, the export is written.

    folder: of the run, new or to continue. build: makes the run's components, once the folder is known to be free.
    keeper: writes what steps leave, and the final result.
    notes: for the user. resumed_at: the step of the checkpoint that training continued from.

    Raises:
        LookforwardError: `folder` is another run or has other files, or cannot be written.
    """

    folder: Path
    settings: Settings
    subject: Subject
    build: Callable[[], C]
    keeper: Keeper[C]
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
        run, trainer, keeper, asked = self.run, components.trainer, self.keeper, self.settings.run
        load_newest(trainer, run.checkpoints, components.model_hash)
        self.resumed_at = trainer.step
        run.forget_after(trainer.step)
        keeper.forget_after(components, run, trainer.step)
        keeper.keep(components, run, trainer.step)  # if the process was stopped between the checkpoint and this
        if not keeper.enough(components, run):
            for result in train(trainer, asked.steps):
                run.log({"step": result.step, **result.terms, "seconds": round(result.seconds, 4)})
                due = result.step == asked.steps or result.step % asked.checkpoint_every == 0
                if due:
                    save_checkpoint(trainer, run.checkpoints, components.model_hash)
                measured = keeper.keep(components, run, result.step)
                enough = bool(measured) and keeper.enough(components, run)
                if enough and not due:  # so that the run can be continued from its end
                    save_checkpoint(trainer, run.checkpoints, components.model_hash)
                yield replace(result, terms=result.terms | measured, checkpoint=due or enough)
                if enough:
                    break
        keeper.export(components, run)
