"""The best step of a run: measured while it trains, its weights kept, and put back for the export."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors.torch import load_file

from lookforward.algorithm.trainer import Trainer
from lookforward.algorithm.weights import swapped
from lookforward.assembly.validation import Validation
from lookforward.config.settings import Settings
from lookforward.errors import LookforwardError
from lookforward.files import REMEDY, write_tensors, writing
from lookforward.runs.evaluations import (
    Choice,
    Evaluation,
    Scale,
    candidates,
    choose,
    no_longer_gains,
    read_evaluations,
    write_evaluations,
)
from lookforward.runs.folder import Run


class BestStep:
    """What was measured in a run so far, and which of its steps is the best.

    The weights of steps that may still be the best are in RUN/candidates: two of them at most.
    """

    def __init__(self, settings: Settings, validation: Validation) -> None:
        self.settings, self.validation = settings, validation

    def due(self, step: int) -> bool:
        """Every so many steps, before the first one and after the last one."""
        return step % self.settings.evaluation.every == 0 or step == self.settings.run.steps

    def measure(self, trainer: Trainer, run: Run) -> dict[str, float]:
        """Measure the step that is done, unless it is measured already; returns what the log and the user see."""
        rows = read_evaluations(run.evaluations)
        found = next((one for one in rows if one.step == trainer.step), None)
        if found is None:
            with trainer.averaged():
                found = self.validation.measure(trainer)
                if found.step > 0:  # before the line that says so
                    with writing(run.candidates, REMEDY):
                        run.candidates.mkdir(exist_ok=True)
                    write_tensors(_weights(run, found.step), dict(trainer.parameters), {})
            rows.append(found)
            write_evaluations(run.evaluations, rows)
        if (scale := self.scale(rows)) is None:
            return {}
        kept = candidates(scale, rows)
        for path in run.candidates.glob("step-*.safetensors"):
            if path not in {_weights(run, step) for step in kept}:
                path.unlink(missing_ok=True)
        return {"identity": found.identity, "prompt": found.prompt, "total": scale.total(found)}

    def scale(self, rows: list[Evaluation]) -> Scale | None:
        """The scales, from the measurement of the untouched model; None where that is missing."""
        return next((self.validation.scale(one) for one in rows if one.step == 0), None)

    def enough(self, run: Run) -> bool:
        """Whether the run has gained nothing for as long as `evaluation.patience` says."""
        rows = read_evaluations(run.evaluations)
        scale = self.scale(rows)
        return scale is not None and no_longer_gains(scale, rows, self.settings.evaluation.patience)

    def forget_after(self, run: Run, step: int) -> None:
        """Forget steps that will be taken, and measured, again."""
        rows = read_evaluations(run.evaluations)
        kept = [one for one in rows if one.step <= step]
        if len(kept) < len(rows):
            write_evaluations(run.evaluations, kept)

    def choice(self, run: Run) -> Choice | None:
        """The best step; None where nothing was measured or its weights are gone."""
        rows = read_evaluations(run.evaluations)
        scale = self.scale(rows)
        if scale is None or not any(one.step > 0 for one in rows):
            return None
        found = choose(scale, rows)
        return found if _weights(run, found.step).is_file() else None

    @contextmanager
    def restored(self, trainer: Trainer, run: Run, choice: Choice) -> Iterator[None]:
        """The policy with the weights of the best step while the context lasts.

        Raises:
            LookforwardError: their file is damaged.
        """
        path = _weights(run, choice.step)
        try:
            values = load_file(path)
            device = next(iter(trainer.parameters.values())).device
            moved = {name: values[name].to(device) for name in trainer.parameters}
        except Exception as error:
            raise LookforwardError(
                f"{path} is damaged: delete it, and run the same command again to export the last step.",
                code="file-damaged",
            ) from error
        with swapped(trainer.parameters, moved):
            yield

    def clear(self, run: Run) -> None:
        """Delete the candidates, once the best one is exported."""
        for path in run.candidates.glob("step-*.safetensors"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            run.candidates.rmdir()


def _weights(run: Run, step: int) -> Path:
    return run.candidates / f"step-{step:06d}.safetensors"
