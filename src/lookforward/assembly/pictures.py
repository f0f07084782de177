"""The images that a run writes beside its weights: samples, and a sheet of the class images."""

from pathlib import Path

import numpy as np

from lookforward.assembly import RunComponents
from lookforward.assembly.class_images import trains_on_own
from lookforward.assembly.marking import marked, run_origin
from lookforward.config.settings import Settings
from lookforward.data.prompts import SAMPLE_SCENES, fill, read_prompt_file
from lookforward.data.subject import Subject
from lookforward.files import REMEDY, atomic_file, writing
from lookforward.models.sampling import draw_images
from lookforward.provenance.save import save_image
from lookforward.report import contact_sheet
from lookforward.runs.folder import Run

CLASS_SHEET = "class-images.png"
_COLUMNS = 8  # of samples, at most


def keep_class_images(components: RunComponents, run: Run) -> None:
    """A sheet of the class images, since a model that draws them badly preserves nothing."""
    path = run.folder / CLASS_SHEET
    if components.class_images is not None and not path.is_file():
        with atomic_file(path) as partial_file:
            origin = run_origin(
                "class images", run.settings, model_hash=components.model_hash,
                prompts=list(dict.fromkeys(components.class_images.examples.prompts)),
            )  # fmt: skip
            own = trains_on_own(run.settings)  # photos, or whatever else the user has
            save_image(components.class_images.sheet(), partial_file, None if own else origin, format="PNG")


def _sample_prompts(settings: Settings) -> list[str]:
    """Templates of the samples: the user's own, or four scenes."""
    if settings.evaluation.prompts:
        return read_prompt_file(Path(settings.evaluation.prompts))
    return [f"a photo of {{identifier}} {{class_noun}}{scene}" for scene in SAMPLE_SCENES]


def draw_samples(subject: Subject, components: RunComponents, run: Run, step: int) -> None:
    """A sheet of images with the weights of a step, if it is not there yet. Raises as `atomic_file`.

    Processes that share the weights draw together, and the main one writes.
    """
    path, processes = run.sample_sheet(step), components.trainer.processes
    if processes.together(path.is_file()):
        return
    templates = _sample_prompts(run.settings)
    prompts = [
        fill(template, one.identifier, one.class_noun if one.noun_in_prompt else "")
        for one in subject.together
        for template in templates
    ]
    with components.trainer.averaged(), components.policy.placement.awake():
        images = draw_images(
            components.pipeline,
            prompts,
            list(range(len(prompts))),
            steps=run.settings.evaluation.sampler_steps,
            guidance=run.settings.evaluation.guidance,
            resolution=run.settings.data.resolution,
        )
    if not processes.main:
        return
    images, watermarked = marked(list[np.ndarray](images), run.settings.evaluation.watermark)
    cell = max(128, run.settings.data.resolution)  # as they were drawn, since details are what matters
    sheet = contact_sheet(images, prompts, columns=min(len(templates), _COLUMNS), cell=cell)
    with writing(run.samples, REMEDY):
        run.samples.mkdir(exist_ok=True)
    with atomic_file(path) as partial_file:
        origin = run_origin(
            "samples", run.settings, model_hash=components.model_hash, prompts=prompts,
            seeds=list(range(len(prompts))), more={"training step": step}, watermark=watermarked,
        )  # fmt: skip
        save_image(sheet, partial_file, origin, format="PNG")
