"""The training job of a run, with its components, and with what it leaves: samples, exports of steps, the result."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionPipeline

from lookforward.assembly import RunComponents, build, manifest_of
from lookforward.assembly.components import result_weights
from lookforward.config.reading import with_values
from lookforward.config.settings import Settings
from lookforward.data.prompts import SAMPLE_SCENES, fill, read_prompt_file
from lookforward.data.subject import Subject
from lookforward.exports.card import Card, ChosenStep
from lookforward.exports.write import export
from lookforward.files import REMEDY, atomic_file, writing
from lookforward.models.sampling import draw_images
from lookforward.report import contact_sheet
from lookforward.runs.folder import MANIFEST, Run
from lookforward.runs.training_job import TrainingJob

CLASS_SHEET = "class-images.png"
_COLUMNS = 8  # of samples, at most


def training_job(
    folder: Path,
    settings: Settings,
    subject: Subject,
    pipeline: StableDiffusionPipeline | None = None,
    given: Mapping[str, Any] | None = None,
) -> TrainingJob[RunComponents]:
    """The training of a run in `folder`, new or to continue; iterate over it to train.

    pipeline: the untouched model if it is loaded already; its weights are trained in place. given: what the user
    wrote of the settings, by dotted names, so that notes can name what is not read.

    Raises:
        LookforwardError: `folder` is another run or has other files, or cannot be written.
    """
    make = partial(build, settings, subject, pipeline, given)
    return TrainingJob(folder, settings, subject, make, RunKeeper(subject))


@dataclass(frozen=True)
class RunKeeper:
    """Samples, measurements and exports of a run of this subject."""

    subject: Subject

    def keep(self, components: RunComponents, run: Run, step: int) -> dict[str, float]:
        """Samples, measurement and export of a step, where due and not there yet; returns what was measured."""
        asked, every = run.settings.run, run.settings.evaluation.sample_every
        _keep_class_images(components, run)
        if _due(every, step) or (every and step == asked.steps):
            _draw_samples(self.subject, components, run, step)
        if _due(asked.export_every, step) and step != asked.steps:  # the last step's export is the run's own
            self._export(components, run, step, run.exports / f"step-{step:06d}")
        best = components.best_step
        return best.measure(components.trainer, run) if best is not None and best.due(step) else {}

    def forget_after(self, components: RunComponents, run: Run, step: int) -> None:
        """Forget measurements of steps that will be taken again."""
        if components.best_step is not None:
            components.best_step.forget_after(run, step)

    def enough(self, components: RunComponents, run: Run) -> bool:
        """Whether more steps no longer gain."""
        return components.best_step is not None and components.best_step.enough(run)

    def export(self, components: RunComponents, run: Run) -> None:
        """Export the best step, and the last one beside it; the last one alone where nothing was measured."""
        best, trainer = components.best_step, components.trainer
        choice = best.choice(run) if best is not None else None
        if best is None or choice is None:
            self._export(components, run, trainer.step, run.export)
            return
        if choice.step != trainer.step:
            self._export(components, run, trainer.step, run.exports / "last")
        with result_weights(components, run):
            self._export(components, run, choice.step, run.export, best.report(run, trainer.step))
        best.clear(run)

    def _export(
        self, components: RunComponents, run: Run, step: int, folder: Path, chosen: ChosenStep | None = None
    ) -> None:
        """Export the weights of a step, with a card that shows that step's samples if there are any.

        chosen: how the step was chosen; its weights are in place. Else they are those of the trainer.
        """
        if (folder / MANIFEST).is_file():
            return
        family = components.policy.family.name
        manifest = manifest_of(run.settings, components.model_hash) | {"family": family, "step": step}
        count = sum(len(one.photos) for one in self.subject.together)
        settings = with_values(run.settings, {"run.steps": step})
        card = Card(manifest, settings, count, _samples_of(run, step), chosen=chosen)
        with components.trainer.averaged() if chosen is None else nullcontext():
            export(components.adapter, components.policy, folder, manifest, card)


def _due(every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _samples_of(run: Run, step: int) -> Path:
    return run.samples / f"step-{step:06d}.png"


def _keep_class_images(components: RunComponents, run: Run) -> None:
    """A sheet of the class images, since a model that draws them badly preserves nothing."""
    path = run.folder / CLASS_SHEET
    if components.class_images is not None and not path.is_file():
        with atomic_file(path) as partial_file:
            components.class_images.sheet().save(partial_file, format="PNG")


def _sample_prompts(settings: Settings) -> list[str]:
    """Templates of the samples: the user's own, or four scenes."""
    if settings.evaluation.prompts:
        return read_prompt_file(Path(settings.evaluation.prompts))
    return [f"a photo of {{identifier}} {{class_noun}}{scene}" for scene in SAMPLE_SCENES]


def _draw_samples(subject: Subject, components: RunComponents, run: Run, step: int) -> None:
    path = _samples_of(run, step)
    if path.is_file():
        return
    templates = _sample_prompts(run.settings)
    prompts = [
        fill(template, one.identifier, one.class_noun if one.noun_in_prompt else "")
        for one in subject.together
        for template in templates
    ]
    with components.trainer.averaged():
        images = draw_images(
            components.pipeline,
            prompts,
            list(range(len(prompts))),
            steps=run.settings.evaluation.sampler_steps,
            guidance=run.settings.evaluation.guidance,
            resolution=run.settings.data.resolution,
        )
    cell = max(128, run.settings.data.resolution)  # as they were drawn, since details are what matters
    sheet = contact_sheet(list[np.ndarray](images), prompts, columns=min(len(templates), _COLUMNS), cell=cell)
    with writing(run.samples, REMEDY):
        run.samples.mkdir(exist_ok=True)
    with atomic_file(path) as partial_file:
        sheet.save(partial_file, format="PNG")
