"""A grid of subjects, methods and seeds on Toybox: train, draw and score every cell, each of them once.

A finished cell is a file in `cells/`; a grid that was stopped goes on with the cells that are missing.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from lookforward.benchmark.memory import peak_memory, reset_peak
from lookforward.build import Judges, build, build_scores
from lookforward.concept import Concept, load_concept
from lookforward.config import Config, load_config
from lookforward.errors import LookforwardError
from lookforward.evaluate import score_images
from lookforward.generate import draw_images
from lookforward.prompts import benchmark_prompts, fill
from lookforward.run import write_text
from lookforward.toybox.subjects import find_subject, known_drawing, write_photos
from lookforward.train import train

UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Plan:
    """What to compare: every subject with every method from every seed, on the same prompts and image seeds.

    methods: label to (recipe, overrides); the label "untouched" stands for the model as it is, asked for the
    class noun. prompts: templates; None stands for the benchmark's 25 for each subject's class. images: per prompt.
    """

    subjects: tuple[str, ...]
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...] | None = None
    images: int = 1

    def prompts_of(self, subject: str) -> tuple[str, ...]:
        """The templates that are asked of one subject."""
        return self.prompts or benchmark_prompts(find_subject(subject).class_noun)


@dataclass(frozen=True)
class Cell:
    """One finished cell. scores: name to one number for each image, prompts in order, images within."""

    subject: str
    method: str
    seed: int
    scores: dict[str, list[float]]
    seconds: float  # of training
    memory: float  # peak while training and drawing, MiB; the loaded models are in it
    terms: dict[str, float] = field(default_factory=dict)  # logged terms, mean of the last quarter


def run_grid(
    plan: Plan, folder: Path, pipeline: StableDiffusionPipeline, judges: Judges
) -> Iterator[tuple[Cell, bool]]:
    """Yield every cell of the plan and whether it was run just now; the pipeline's weights are restored after each.

    Raises:
        LookforwardError: a cell was run before with other settings; nothing is mixed.
    """
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    untouched = _snapshot(pipeline)
    for subject in plan.subjects:
        photos = folder / "photos" / subject
        write_photos(subject, photos)
        for seed in plan.seeds:
            for method in plan.methods:
                path = folder / "cells" / f"{subject}.{method}.{seed}.json"
                settings = _settings(plan, subject, method, seed)
                if path.is_file():
                    yield _read_cell(path, settings), False
                    continue
                try:
                    cell, images = _run_cell(plan, subject, method, seed, photos, pipeline, judges)
                finally:
                    _restore(pipeline, untouched)
                strip = Image.fromarray(images.reshape(-1, *images.shape[2:]))
                strip.save(folder / "images" / f"{path.stem}.png")
                write_text(path, json.dumps({"settings": settings, **asdict(cell)}) + "\n")
                yield cell, True


def cell_images(folder: Path, subject: str, method: str, seed: int) -> np.ndarray:
    """What a finished cell drew: (n, h, w, 3) uint8, in the order of its scores."""
    with Image.open(folder / "images" / f"{subject}.{method}.{seed}.png") as strip:
        pixels = np.asarray(strip.convert("RGB"))
    return pixels.reshape(-1, pixels.shape[1], pixels.shape[1], 3)


def _run_cell(
    plan: Plan,
    subject: str,
    method: str,
    seed: int,
    photos: Path,
    pipeline: StableDiffusionPipeline,
    judges: Judges,
) -> tuple[Cell, np.ndarray]:
    reset_peak()
    recipe, overrides = plan.methods[method]
    noun = find_subject(subject).class_noun
    config = load_config(recipe, {**overrides, "class_noun": noun, "seed": seed, "photos": str(photos)})
    concept = load_concept(photos, class_noun=noun, resolution=config.resolution)
    seconds, terms = 0.0, {}
    if method != UNTOUCHED:
        seconds, terms = _train(config, concept, pipeline)
    images = _draw(plan, subject, config, concept, pipeline, config.identifier if method != UNTOUCHED else "")
    texts = [fill(p, "", noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    references = np.stack([photo.pixels for photo in concept.photos])
    scores = score_images(build_scores(judges, references, known_drawing(photos)), images, texts)
    lists = {name: [round(float(x), 6) for x in values] for name, values in scores.items()}
    return Cell(subject, method, seed, lists, round(seconds, 2), round(peak_memory()), terms), images


def _train(config: Config, concept: Concept, pipeline: StableDiffusionPipeline) -> tuple[float, dict[str, float]]:
    """Train in place; seconds spent in steps, and the logged terms over the last quarter of them."""
    trainer = build(config, concept, pipeline).trainer
    started, kept = time.perf_counter(), []
    for result in train(trainer, config.steps):
        if result.step > 0.75 * config.steps:
            kept.append(result.terms)
    seconds = time.perf_counter() - started
    return seconds, {name: round(float(np.mean([row[name] for row in kept])), 6) for name in kept[0]}


def _draw(
    plan: Plan, subject: str, config: Config, concept: Concept, pipeline: StableDiffusionPipeline, identifier: str
) -> np.ndarray:
    prompts = [fill(p, identifier, concept.class_noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    # The same seeds for every method, others for every training seed
    seeds = [10_000 * (config.seed + 1) + i for i in range(len(prompts))]
    return draw_images(
        pipeline,
        prompts,
        seeds,
        steps=config.sample_steps,
        guidance=config.guidance,
        resolution=config.resolution,
    )


def _settings(plan: Plan, subject: str, method: str, seed: int) -> dict[str, Any]:
    recipe, overrides = plan.methods[method]
    config = load_config(recipe, {**overrides, "seed": seed})
    return {
        "config": asdict(replace(config, recipe="")),
        "prompts": list(plan.prompts_of(subject)),
        "images": plan.images,
    }


def _read_cell(path: Path, settings: Mapping[str, Any]) -> Cell:
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("settings") != settings:
        raise LookforwardError(f"{path} was run with other settings; give another --output, or delete {path.parent}.")
    return Cell(**values)


def _snapshot(pipeline: StableDiffusionPipeline) -> list[dict[str, torch.Tensor]]:
    return [
        {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        for module in (pipeline.unet, pipeline.text_encoder)
    ]


def _restore(pipeline: StableDiffusionPipeline, snapshot: Sequence[Mapping[str, torch.Tensor]]) -> None:
    for module, state in zip((pipeline.unet, pipeline.text_encoder), snapshot, strict=True):
        module.load_state_dict(state)
        module.requires_grad_(False)
