"""A grid of subjects, methods and seeds: train, draw and score every cell, each of them once.

A finished cell is a file in `cells/`; a grid that was stopped goes on with the cells that are missing.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from lookforward.algorithm.trainer import train
from lookforward.api import read_subject
from lookforward.assembly import Evaluators, RunComponents, build, build_scores, model_hash
from lookforward.benchmark.cell import (
    Cell,
    cell_images,
    finished_cell,
    last_quarter,
    require_same_model,
    thin,
    unknown_scores,
    write_cell,
)
from lookforward.benchmark.datasets import photos_hash, provide_photos
from lookforward.benchmark.memory import peak_gpu_memory, peak_memory, reset_peak
from lookforward.benchmark.plan import UNTOUCHED, Key, Plan, spread_prompts
from lookforward.benchmark.provenance import config_hash, device_name, now, versions
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.data.prompts import fill
from lookforward.errors import LookforwardError
from lookforward.files import writing
from lookforward.models.sampling import draw_images
from lookforward.scores.evaluate import score_images

__all__ = ["UNTOUCHED", "Cell", "Plan", "cell_images", "run_cell", "run_grid", "spread_prompts", "thin"]

Weights = list[dict[str, torch.Tensor]]


def run_grid(
    plan: Plan, folder: Path, pipeline: StableDiffusionPipeline, judges: Evaluators
) -> Iterator[tuple[Cell, bool]]:
    """Yield every cell of the plan and whether it was run just now; the pipeline's weights are restored after each.

    Raises:
        LookforwardError: a cell was run before with other settings or weights (nothing is mixed), it cannot be
            made, or the folder cannot be written.
    """
    with writing(folder):
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        (folder / "images").mkdir(exist_ok=True)
    untouched, digest = snapshot(pipeline), model_hash(pipeline)
    require_same_model(folder, digest)
    for key in plan.cells():
        kept = finished_cell(plan, folder, key)
        if kept is not None:
            yield kept, False
            continue
        with writing(folder):
            photos = provide_photos(plan.subject(key[0]), folder / "photos")
        try:
            cell, images = run_cell(plan, key, photos, pipeline, judges, digest)
        except LookforwardError as error:
            raise LookforwardError(f"{key[0]}, {key[1]}, seed {key[2]}: {error}") from error
        finally:
            restore(pipeline, untouched)
        with writing(folder):
            write_cell(folder, plan.settings_of(key), cell, images)
        yield cell, True


def run_cell(
    plan: Plan, key: Key, photos: Path, pipeline: StableDiffusionPipeline, judges: Evaluators, digest: str = ""
) -> tuple[Cell, np.ndarray]:
    """Train, draw and score one cell; returns its images too, (n, h, w, 3) uint8. The pipeline is left trained.

    photos: folder of the subject's. digest: `model_hash` of the untouched model, to be kept with the cell.

    Raises:
        LookforwardError: the photos cannot be used, the training diverges, or a score is no number.
    """
    reset_peak()
    begun = time.perf_counter()
    subject, method, seed = key
    one = plan.subject(subject)
    recipe, overrides = plan.methods[method]
    settings = load_settings(
        recipe, {**overrides, "subject.class_noun": one.class_noun, "run.seed": seed, "subject.photos": str(photos)}
    )
    loaded = read_subject(photos, settings)
    started, rows, components = begun, [], None
    parameters, size = 0, 0.0
    try:
        if method != UNTOUCHED:
            components = build(settings, loaded, pipeline)
            started = time.perf_counter()
            rows = [(result.step, result.terms) for result in train(components.trainer, settings.run.steps)]
        seconds = time.perf_counter() - started if rows else 0.0
        if components is not None:
            parameters = sum(p.numel() for p in components.trainer.parameters.values())
            size = _export_size(components)
        images = _draw(plan, subject, settings, pipeline, settings.subject.identifier if method != UNTOUCHED else "")
    finally:
        if components is not None:
            components.adapter.detach(components.policy)
    seen = settings.subject.identifier if plan.scoring.identifier_in_clip_text else ""
    texts = [fill(p, seen, one.class_noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    references = np.stack([photo.pixels for photo in loaded.photos])
    drawing = None if one.drawing is None else one.drawing()
    scores = score_images(build_scores(judges, references, drawing), images, texts)
    cell = Cell(
        subject,
        method,
        seed,
        {name: [round(float(x), 6) for x in values] for name, values in scores.items()},
        round(seconds, 2),
        round(peak_memory()),
        last_quarter(rows, settings.run.steps),
        thin(rows),
        parameters,
        size,
        {
            "date": now(),
            "seconds": round(time.perf_counter() - begun, 2),
            "device": device_name(pipeline.device),
            "gpu_memory": round(peak_gpu_memory()),
            "model_hash": digest,
            "config_hash": config_hash(settings) if method != UNTOUCHED else "",
            "photos_hash": photos_hash(photos),
            "versions": versions(),
        },
    )
    if unknown := unknown_scores(cell):
        raise LookforwardError(f"{', '.join(unknown)} of some images is no number; can the encoder be trusted?")
    return cell, images


def snapshot(pipeline: StableDiffusionPipeline) -> Weights:
    """A copy of all weights that an adapter may train."""
    return [
        {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        for module in (pipeline.unet, pipeline.text_encoder)
    ]


def restore(pipeline: StableDiffusionPipeline, weights: Weights) -> None:
    """Bring the weights back to what they were at `snapshot`."""
    for module, state in zip((pipeline.unet, pipeline.text_encoder), weights, strict=True):
        module.load_state_dict(state)
        module.requires_grad_(False)


def _export_size(components: RunComponents) -> float:
    """MiB of the weights in an export; the parts of a pipeline folder that the run did not train count too."""
    with tempfile.TemporaryDirectory() as folder:
        components.adapter.export(components.policy, Path(folder))
        return round(sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors")) / 2**20, 3)


def _draw(
    plan: Plan, subject: str, settings: Settings, pipeline: StableDiffusionPipeline, identifier: str
) -> np.ndarray:
    noun = settings.subject.class_noun if settings.subject.noun_in_prompt or not identifier else ""
    prompts = [fill(p, identifier, noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    seeds: Sequence[int] = plan.image_seeds(subject, settings.run.seed)
    return draw_images(
        pipeline,
        prompts,
        seeds,
        steps=settings.evaluation.sampler_steps,
        guidance=settings.evaluation.guidance,
        resolution=settings.data.resolution,
    )
