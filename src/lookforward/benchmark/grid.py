"""A grid of subjects, methods and seeds on Toybox: train, draw and score every cell, each of them once.

A finished cell is a file in `cells/`; a grid that was stopped goes on with the cells that are missing.
"""

import json
import re
import tempfile
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
from lookforward.build import Judges, Workshop, build, build_scores
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
THINNED = 10  # steps of which a cell keeps the mean


@dataclass(frozen=True)
class Plan:
    """What to compare: every subject with every method from every seed, on the same prompts and image seeds.

    methods: label to (recipe, overrides); the label "untouched" stands for the model as it is, asked for the
    class noun. prompts: templates; None stands for the benchmark's 25 for each subject's class. images: per prompt.
    count: how many of the benchmark's prompts, see `spread_prompts`; None stands for all.
    """

    subjects: tuple[str, ...]
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...] | None = None
    images: int = 1
    count: int | None = None

    def prompts_of(self, subject: str) -> tuple[str, ...]:
        """The templates that are asked of one subject."""
        if self.prompts:
            return self.prompts
        templates = benchmark_prompts(find_subject(subject).class_noun)
        return templates if self.count is None else spread_prompts(templates, self.count)


@dataclass(frozen=True)
class Cell:
    """One finished cell.

    scores: name to one number for each image, prompts in order, images within. curves: logged term to [step, mean over
    the THINNED steps up to it]; empty for the untouched model, and in cells of before there were curves.
    """

    subject: str
    method: str
    seed: int
    scores: dict[str, list[float]]
    seconds: float  # of training
    memory: float  # peak while training and drawing, MiB; the loaded models are in it
    terms: dict[str, float] = field(default_factory=dict)  # logged terms, mean of the last quarter
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    parameters: int = 0  # trained
    size: float = 0.0  # of the weights that a user would pass on, MiB


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


def spread_prompts(templates: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` of the templates, kinds in turn (scenes, outfits, looks) as far as they go, in their own order."""
    kinds: dict[str, list[str]] = {}
    for template in templates:
        kinds.setdefault(_kind(template), []).append(template)
    longest = max(map(len, kinds.values()))
    in_turn = [kind[i] for i in range(longest) for kind in kinds.values() if i < len(kind)]
    chosen = set(in_turn[:count])
    return tuple(template for template in templates if template in chosen)


def thin(rows: Sequence[tuple[int, Mapping[str, float]]], every: int = THINNED) -> dict[str, list[list[float]]]:
    """Logged terms of steps counted from 1: name to [last step, mean] of every so many steps that have it."""
    parts: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for step, terms in rows:
        for name, value in terms.items():
            parts.setdefault(name, {}).setdefault((step - 1) // every, []).append((step, value))
    return {
        name: [[part[-1][0], _short(np.mean([value for _, value in part]))] for part in windows.values()]
        for name, windows in parts.items()
    }


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
    concept = load_concept(
        photos,
        class_noun=noun,
        identifier=config.identifier,
        resolution=config.resolution,
        noun_in_prompt=config.noun_in_prompt,
    )
    started, rows, workshop = time.perf_counter(), [], None
    parameters, size = 0, 0.0
    try:
        if method != UNTOUCHED:
            workshop = build(config, concept, pipeline)
            started = time.perf_counter()
            rows = [(result.step, result.terms) for result in train(workshop.trainer, config.steps)]
        seconds = time.perf_counter() - started if rows else 0.0
        if workshop is not None:
            parameters = sum(p.numel() for p in workshop.trainer.parameters.values())
            size = _export_size(workshop)
        images = _draw(plan, subject, config, concept, pipeline, config.identifier if method != UNTOUCHED else "")
    finally:
        if workshop is not None:
            workshop.adapter.detach(workshop.policy)
    texts = [fill(p, "", noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    references = np.stack([photo.pixels for photo in concept.photos])
    scores = score_images(build_scores(judges, references, known_drawing(photos)), images, texts)
    lists = {name: [round(float(x), 6) for x in values] for name, values in scores.items()}
    terms, memory = _last_quarter(rows, config.steps), round(peak_memory())
    cell = Cell(subject, method, seed, lists, round(seconds, 2), memory, terms, thin(rows), parameters, size)
    return cell, images


def _export_size(workshop: Workshop) -> float:
    """MiB of the weights in an export; the parts of a pipeline folder that the run did not train count too."""
    with tempfile.TemporaryDirectory() as folder:
        workshop.adapter.export(workshop.policy, Path(folder))
        return round(sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors")) / 2**20, 3)


def _last_quarter(rows: Sequence[tuple[int, Mapping[str, float]]], steps: int) -> dict[str, float]:
    """The mean of every logged term over the last quarter of the steps; of those that have it."""
    kept: dict[str, list[float]] = {}
    for step, terms in rows:
        for name, value in terms.items() if step > 0.75 * steps else ():
            kept.setdefault(name, []).append(value)
    return {name: _short(np.mean(values)) for name, values in kept.items()}


def _draw(
    plan: Plan, subject: str, config: Config, concept: Concept, pipeline: StableDiffusionPipeline, identifier: str
) -> np.ndarray:
    noun = concept.class_noun if config.noun_in_prompt or not identifier else ""
    prompts = [fill(p, identifier, noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
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
    if _in_full(values.pop("settings")) != settings:
        raise LookforwardError(f"{path} was run with other settings; give another --output, or delete {path.parent}.")
    return Cell(**values)


def _in_full(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's settings, with the defaults of those that were not there when it was run."""
    return {**settings, "config": asdict(Config()) | settings["config"]}


def _snapshot(pipeline: StableDiffusionPipeline) -> list[dict[str, torch.Tensor]]:
    return [
        {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        for module in (pipeline.unet, pipeline.text_encoder)
    ]


def _restore(pipeline: StableDiffusionPipeline, snapshot: Sequence[Mapping[str, torch.Tensor]]) -> None:
    for module, state in zip((pipeline.unet, pipeline.text_encoder), snapshot, strict=True):
        module.load_state_dict(state)
        module.requires_grad_(False)


def _kind(template: str) -> str:
    if template.endswith("{class_noun}"):
        return "look"
    return "outfit" if re.search(r"\bwearing\b|\boutfit$", template) else "scene"


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
