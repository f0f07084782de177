"""What a run leaves at some of its steps: images to look at, and exports to choose from."""

from pathlib import Path

import numpy as np

from lookforward.assembly import RunComponents, manifest_of
from lookforward.config.reading import with_values
from lookforward.data.prompts import SAMPLE_SCENES
from lookforward.data.subject import Subject
from lookforward.exports.card import Card
from lookforward.exports.write import export
from lookforward.files import REMEDY, atomic_file, writing
from lookforward.models.sampling import draw_images
from lookforward.report import contact_sheet
from lookforward.runs.folder import MANIFEST, Run


def keep_milestones(components: RunComponents, run: Run, subject: Subject, step: int) -> None:
    """Samples and export of a step, where it is to have them and they are not there yet.

    Raises:
        LookforwardError: the disk is full or cannot be written; what is there stays.
    """
    if _due(run.settings.evaluation.sample_every, step) or (
        run.settings.evaluation.sample_every and step == run.settings.run.steps
    ):
        _draw_samples(components, run, subject, step)
    if _due(run.settings.run.export_every, step) and step != run.settings.run.steps:  # the last one's is the run's own
        export_step(components, run, subject, step, run.exports / f"step-{step:06d}")


def export_step(components: RunComponents, run: Run, subject: Subject, step: int, folder: Path) -> None:
    """Export the weights of a step with a card that shows that step's samples, if it has any.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    if (folder / MANIFEST).is_file():
        return
    manifest, count = manifest_of(run.settings, components.model_hash), sum(len(one.photos) for one in subject.together)
    card = Card(manifest, with_values(run.settings, {"run.steps": step}), count, _samples_of(run, step))
    export(components.adapter, components.policy, folder, manifest, card)


def _due(every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _samples_of(run: Run, step: int) -> Path:
    return run.samples / f"step-{step:06d}.png"


def _draw_samples(components: RunComponents, run: Run, subject: Subject, step: int) -> None:
    path = _samples_of(run, step)
    if path.is_file():
        return
    prompts = [one.prompt + scene for one in subject.together for scene in SAMPLE_SCENES]
    images = draw_images(
        components.pipeline,
        prompts,
        list(range(len(prompts))),
        steps=run.settings.evaluation.sampler_steps,
        guidance=run.settings.evaluation.guidance,
        resolution=run.settings.data.resolution,
    )
    cell = max(128, run.settings.data.resolution)  # as they were drawn: details are what is to be judged
    sheet = contact_sheet(list[np.ndarray](images), prompts, columns=len(SAMPLE_SCENES), cell=cell)
    with writing(run.samples, REMEDY):
        run.samples.mkdir(exist_ok=True)
        with atomic_file(path) as partial:
            sheet.save(partial, format="PNG")
