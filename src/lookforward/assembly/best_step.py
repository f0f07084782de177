"""The best step of a run: measured during training, its weights saved and restored for the export."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from lookforward.algorithm.trainer import Trainer
from lookforward.algorithm.weights import swapped
from lookforward.assembly.validation import Validation
from lookforward.config.settings import Settings
from lookforward.core.sharding import gathered, share
from lookforward.errors import LookforwardError, is_out_of_memory, warn
from lookforward.exports.card import ChosenStep
from lookforward.files import REMEDY, make_folder, writing
from lookforward.runs.folder import Run
from lookforward.runs.step_choice import (
    Choice,
    Evaluation,
    Scale,
    candidates,
    choose,
    no_longer_gains,
    read_evaluations,
    write_evaluations,
)
from lookforward.whole import tensors_state, write_sealed_tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lookforward.report.curves import Line


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
        rows, main = read_evaluations(run.evaluations), trainer.processes.main
        found = next((one for one in rows if one.step == trainer.step), None)
        if trainer.processes.together(found is None):
            with trainer.averaged():
                found = self.validation.measure(trainer)
                weights = gathered(trainer.parameters, main) if found.step > 0 else {}
            if weights:  # before the line that says so
                with writing(run.candidates, REMEDY):
                    make_folder(run.candidates)
                write_sealed_tensors(_weights(run, found.step), weights, {})
            if main:
                rows.append(found)
                write_evaluations(run.evaluations, rows)
        if not main or found is None:  # it takes part in the measurement alone
            return {}
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
        """Whether the run has gained nothing for as long as `evaluation.patience` says.

        Measurements within a warm-up do not count: the policy has not followed its critic yet, or learned slowly.
        """
        rows, asked = read_evaluations(run.evaluations), self.settings
        warmup = max(asked.optimizer.warmup, asked.critic.warmup if asked.critic.name != "none" else 0)
        scale = self.scale(rows)
        counted = [one for one in rows if one.step > warmup]
        return scale is not None and no_longer_gains(scale, counted, asked.evaluation.patience)

    def forget_after(self, run: Run, step: int) -> None:
        """Forget steps that will be taken, and measured, again."""
        rows = read_evaluations(run.evaluations)
        kept = [one for one in rows if one.step <= step]
        if len(kept) < len(rows):
            write_evaluations(run.evaluations, kept)

    def choice(self, run: Run, last: int = 0) -> Choice | None:
        """The best step; None where nothing was measured or its weights are gone. last: the run's, 0 if unknown.

        Warns of steps up to `last` whose measurement is missing.
        """
        rows = read_evaluations(run.evaluations)
        scale, measured = self.scale(rows), {one.step for one in rows}
        if missing := [str(step) for step in range(last + 1) if self.due(step) and step not in measured]:
            lacks = f"{run.evaluations} lacks the measurements of steps {', '.join(missing)}"
            warn(f"{lacks}: the best of the others is taken.")
        found = choose(scale, rows) if scale is not None and any(one.step > 0 for one in rows) else None
        if found is not None and _weights(run, found.step).is_file():
            return found
        what = "its weights are gone" if scale else f"{run.evaluations.name} does not begin with step 0"
        warnings.warn(f"The best step of {run.folder} is not known ({what}): the last step is taken.", stacklevel=2)
        return None

    def report(self, run: Run, last: int) -> ChosenStep:
        """How the step was chosen, for the card. last: the run's last step."""
        rows = read_evaluations(run.evaluations)
        scale = self.validation.scale(rows[0])
        step = choose(scale, rows).step
        of_step = {one.step: one for one in rows}
        return ChosenStep(
            step,
            last,
            len(rows) - 1,
            {name: (getattr(of_step[step], name), getattr(of_step[last], name)) for name in ("identity", "prompt")},
            _curve(scale, rows, step, "held-out photos" if self.settings.evaluation.held_out else "photos"),
        )

    @contextmanager
    def restored(self, trainer: Trainer, run: Run, choice: Choice) -> Iterator[None]:
        """The policy with the weights of the best step while the context lasts.

        Raises:
            LookforwardError: their file is damaged.
        """
        path = _weights(run, choice.step)
        try:
            if tensors_state(path) == "damaged":
                raise ValueError("its digest does not fit")
            values = load_file(path)
            device = next(iter(trainer.parameters.values())).device
            moved = {name: share(values[name].to(device), p) for name, p in trainer.parameters.items()}
        except Exception as error:
            if is_out_of_memory(error):
                raise
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


def _curve(scale: Scale, rows: Sequence[Evaluation], chosen: int, photos: str) -> Figure:
    """Both parts and their mean against the step, each from 0, the untouched model, to 1; and the denoising loss."""
    from lookforward.report.curves import curves  # by matplotlib, which takes long to import

    steps = [one.step for one in rows]
    identity, prompt = zip(*map(scale.parts, rows), strict=True)
    lines: dict[str, Line] = {"identity": (steps, identity), "prompt": (steps, prompt)}
    lines["both"] = (steps, [scale.total(one) for one in rows])
    loss: dict[str, Line] = {"loss": (steps, [one.loss for one in rows])}
    panels = {"identity and prompt following": lines, f"denoising loss on the {photos}": loss}
    return curves(panels, "step", columns=2, note=f"step {chosen} was chosen", mark=chosen)


def _weights(run: Run, step: int) -> Path:
    return run.candidates / f"step-{step:06d}.safetensors"
