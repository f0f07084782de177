"""Training of a run: start or resume a run folder, and write logs, checkpoints, samples and exports."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import InitVar, asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lookforward import stopping
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.algorithm.trainer import train
from lookforward.assembly import RunComponents, build
from lookforward.assembly.class_images import class_image_digests
from lookforward.assembly.consent import Agreement, agreement
from lookforward.assembly.marking import watermark_notes
from lookforward.assembly.out_of_memory import explained
from lookforward.assembly.pictures import draw_samples, keep_class_images
from lookforward.assembly.start import encoder_digests
from lookforward.config.reading import with_values
from lookforward.config.settings import Settings
from lookforward.core.types import StepResult
from lookforward.data.subject import Subject
from lookforward.errors import LookforwardError
from lookforward.exports.card import Card, ChosenStep
from lookforward.exports.load import manifest_of, write_model
from lookforward.exports.write import export
from lookforward.models.families.sd3 import t5_options
from lookforward.runs.checkpoint import list_checkpoints, load_newest, save_checkpoint, set_damaged_aside
from lookforward.runs.consent import read_consent
from lookforward.runs.folder import MANIFEST, SETTINGS, Run, prepare
from lookforward.runs.longer import as_made
from lookforward.runs.micro_batches import read_micro_batches, write_micro_batches
from lookforward.runs.trackers import tracking


@dataclass
class TrainingJob:
    """The training of a run, from its first step or its last checkpoint. Iterate over it to train.

    When the iteration ends, the export is written.

    folder: of the run, new or to continue. pipeline: the untouched model if it is loaded already; its weights are
    trained in place. given: what the user wrote of the settings, by dotted names, so that notes name what is not read.
    processes: those that share the run. consent: a statement of it, if the user gives one. notes: for the user.
    resumed_at: the step of the checkpoint that training continued from.

    Raises:
        LookforwardError: `folder` is another run or has other files, or cannot be written; the statement has no text.
    """

    folder: Path
    settings: Settings
    subject: Subject
    pipeline: Any = None
    given: Mapping[str, Any] | None = None
    processes: Processes = ALONE
    consent: InitVar[str] = ""
    run: Run = field(init=False)
    agreement: Agreement = field(init=False)
    notes: tuple[str, ...] = field(init=False)
    resumed_at: int = field(init=False, default=0)
    _kept: str = field(init=False, default="")

    def __post_init__(self, consent: str) -> None:
        self.settings, self._kept = as_made(self.settings, self.folder / SETTINGS, self.given)
        self.run = self._prepare()
        self.agree(consent)

    def agree(self, statement: str) -> None:
        """Record a statement of consent; "" is none. Raises LookforwardError if it cannot be read."""
        self.agreement = agreement(self.folder, self.subject, statement)
        self.notes = self._all_notes(self.subject.notes)

    @explained
    def __iter__(self) -> Generator[StepResult]:
        """Yield each missing step after it was logged and, where due, saved."""
        if self._prepare().finished:
            return
        self.agreement.require()
        components = build(self.settings, self.subject, self.pipeline, self.given, self.processes)
        evaluation = self.settings.evaluation
        drawn = evaluation.watermark and evaluation.sample_every > 0
        unmarked = watermark_notes(self.settings.data.resolution, drawn)
        self.notes = self._all_notes((*components.notes, *unmarked))
        # After building, so that what cannot be built leaves no run behind
        with self.run.hold() if self.processes.main else nullcontext():
            finished = self._prepare().finished
            self.processes.require_same(finished, "state of the run folder")
            if finished:
                return
            if self.processes.main:
                self.run.make_longer()
                if self.agreement.consent is not None:
                    self.agreement.consent.write(self.run.folder)
                self.run.begin(self._digests)
                write_model(self.run.folder, self.settings, components.model_hash, components.model_commit)
            yield from self._train_or_stop(components)

    def _all_notes(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        return (*([self._kept] if self._kept else []), *notes, *self.agreement.notes)

    def _prepare(self) -> Run:
        """Raises if another process began another run in the folder meanwhile."""
        return prepare(self.folder, self.settings, self._digests)

    @cached_property
    def _digests(self) -> list[str]:
        own = class_image_digests(self.settings, self.subject)
        return [*self.subject.digests, *own, *encoder_digests(self.settings)]

    def _train_or_stop(self, components: RunComponents) -> Iterator[StepResult]:
        """Train; if a signal asks for a stop, or a step fails, say what is kept. A stop is saved first."""
        run, trainer = self.run, components.trainer
        try:
            with stopping.finishing(at_steps=self.processes.shard), self.processes.meeting():
                yield from self._train(components)
        except stopping.Stopped as stopped:
            path = run.checkpoints / f"step-{trainer.step:06d}"
            saves = self.processes.present and trainer.step > 0
            if saves and not self.processes.together(path.is_dir()):
                save_checkpoint(trainer, run.checkpoints, components.model_hash)
            what = f"after step {trainer.step}, which is saved" if trainer.step else "before the first step"
            message = f"stopped {what}. Run the same command again to continue."
            raise stopping.Stopped(stopped.number, message) from None
        except LookforwardError as error:
            if error.code not in ("diverged", "not-finite"):
                raise
            saved = list_checkpoints(run.checkpoints)
            kept = f"The last whole checkpoint is {saved[-1]}." if saved else "No checkpoint was saved before it."
            raise LookforwardError(f"{error} {kept}", error.code) from error

    def _train(self, components: RunComponents) -> Iterator[StepResult]:
        run, trainer, best = self.run, components.trainer, components.best_step
        main, of_main = self.processes.main, self.processes.of_main
        load_newest(trainer, run.checkpoints, components.model_hash)
        self.resumed_at, trainer.smaller = trainer.step, read_micro_batches(run.folder)
        self.processes.require_same((trainer.step, components.model_hash), "checkpoint and model")
        if main:
            set_damaged_aside(run.checkpoints, trainer.step)
            self.notes += run.forget_after(trainer.step)  # after the checkpoint was found
            if best is not None:
                best.forget_after(run, trainer.step)
        if self.processes.present:
            self._keep(components, trainer.step)  # if the process was stopped between the checkpoint and this
        if not of_main(main and best is not None and best.enough(run)):
            yield from self._steps(components)
        if self.processes.present:
            self._export_result(components)
        self.processes.wait()  # so that all can read the export

    def _steps(self, components: RunComponents) -> Iterator[StepResult]:
        """Take the missing steps, each logged and saved, until the last one, one that is enough, or a signal."""
        main, of_main = self.processes.main, self.processes.of_main
        steps, every = self.settings.run.steps, self.settings.run.checkpoint_every
        with tracking(self.run, components.trainer.step) if main else nullcontext() as tracker:
            for result in train(components.trainer, steps):
                due = result.step == steps or result.step % every == 0
                measured, enough = self._save(components, result, due) if self.processes.present else ({}, False)
                if tracker is not None:
                    tracker.show(result, measured, self.run)
                enough = of_main(enough)
                yield replace(result, terms=result.terms | measured, checkpoint=due or enough)
                if enough:
                    break
                if of_main(stopping.requested()):
                    raise stopping.Stopped(stopping.number())

    def _save(self, components: RunComponents, result: StepResult, due: bool) -> tuple[dict[str, float], bool]:
        """Log a step, and save what is due after it; returns what was measured, and whether training may end."""
        run, trainer, best = self.run, components.trainer, components.best_step
        if self.processes.main:
            write_micro_batches(run.folder, trainer.smaller)
            run.log({"step": result.step, **result.terms, "seconds": round(result.seconds, 4)})
        if due:
            save_checkpoint(trainer, run.checkpoints, components.model_hash)
        measured = self._keep(components, result.step)
        enough = self.processes.together(best is not None and bool(measured) and best.enough(run))
        if enough and not due:  # so that the run can be continued from its end
            save_checkpoint(trainer, run.checkpoints, components.model_hash)
        return measured, enough

    def _keep(self, components: RunComponents, step: int) -> dict[str, float]:
        """Samples, measurement and export of a step, where due and not there yet; returns what was measured."""
        run, asked, every = self.run, self.settings.run, self.settings.evaluation.sample_every
        if self.processes.main:
            keep_class_images(components, run)
        if _due(every, step) or (every and step == asked.steps):
            draw_samples(self.subject, components, run, step)
        if _due(asked.export_every, step) and step != asked.steps:  # the last step's export is the run's own
            _export(self.subject, components, run, step, run.exports / f"step-{step:06d}")
        best = components.best_step
        return best.measure(components.trainer, run) if best is not None and best.due(step) else {}

    def _export_result(self, components: RunComponents) -> None:
        """Export the best step, and the last one beside it; the last one alone where nothing was measured."""
        run, best, last = self.run, components.best_step, components.trainer.step
        main = self.processes.main
        choice = self.processes.together(best.choice(run, last) if best is not None and main else None)
        if best is None or choice is None:
            _export(self.subject, components, run, last, run.export)
            return
        if choice.step != last:
            _export(self.subject, components, run, last, run.exports / "last")
        with best.restored(components.trainer, run, choice):
            _export(self.subject, components, run, choice.step, run.export, best.report(run, last))
        if main:
            best.clear(run)


def _due(every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _export(
    subject: Subject, components: RunComponents, run: Run, step: int, folder: Path, chosen: ChosenStep | None = None
) -> None:
    """Export the weights of a step, with a card that shows that step's samples if there are any.

    chosen: how the step was chosen; its weights are in place. Else they are those of the trainer. Processes that share
    the weights make them whole together, and the main one writes.
    """
    processes, shards = components.trainer.processes, components.shards
    if processes.together((folder / MANIFEST).is_file()):
        return
    consent = read_consent(run.folder)
    manifest = manifest_of(run.settings, components.model_hash, components.model_commit)
    family = components.policy.family
    manifest |= {"family": family.name, "step": step}
    absent = sorted(name for name in family.optional if getattr(components.pipeline, name) is None)
    manifest |= {"absent": absent} if absent else {}
    manifest |= t5_options(components.pipeline)
    manifest |= {"consent": [asdict(consent)]} if consent else {}
    count = sum(len(one.photos) for one in subject.together)
    card = Card(manifest, with_values(run.settings, {"run.steps": step}), count, run.sample_sheet(step), chosen=chosen)
    with ExitStack() as weights:
        if chosen is None:
            weights.enter_context(components.trainer.averaged())
        if shards is not None:
            weights.enter_context(shards.whole(processes.main))
        if processes.main:
            export(components.adapter, components.policy, folder, manifest, card)
