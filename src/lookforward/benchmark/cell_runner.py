"""Train, draw and score one cell on a model that is loaded once and restored after each cell."""

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from lookforward.algorithm.trainer import train
from lookforward.api import read_subject
from lookforward.assembly import Evaluators, RunComponents, build, build_evaluators, build_scores
from lookforward.assembly.components import result_weights
from lookforward.benchmark.cell import Cell, last_quarter, non_finite_scores, require_same_model, smooth_curves
from lookforward.benchmark.datasets.values import photos_hash
from lookforward.benchmark.peak_memory import peak_gpu_memory, peak_memory, reset_peak
from lookforward.benchmark.plan import DEFAULT_SCORING, UNTOUCHED, CellKey, Plan, Scoring
from lookforward.benchmark.provenance import device_name, now, versions
from lookforward.benchmark.recorded import settings_hash
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.data.prompts import clip_text, fill
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images
from lookforward.runs.folder import Run
from lookforward.scores.evaluate import score_images


@dataclass(frozen=True)
class ModelSource:
    """What a worker loads. folder: of the benchmark, whose cells must be of the same weights."""

    model: str
    folder: Path
    scoring: Scoring = DEFAULT_SCORING

    def load(self, worker: int) -> "ModelRunner":
        """Load the model and the encoders for one of several workers; each gets a GPU of its own if there are some.

        Raises:
            LookforwardError: the model or an encoder cannot be loaded, or `folder` has cells of other weights.
        """
        count, chosen = torch.cuda.device_count() if torch.cuda.is_available() else 0, self.scoring
        device = f"cuda:{worker % count}" if count else "auto"
        evaluators = build_evaluators(self.model, device=device, extra=chosen.extra, **chosen.encoders())
        runner = ModelRunner(self.model, device, evaluators)
        require_same_model(self.folder, runner.hash)
        return runner


class ModelRunner:
    """A `CellRunner` that keeps the untouched model between cells."""

    def __init__(self, model: str, device: str, evaluators: Evaluators) -> None:
        self.model, self.device, self.evaluators = model, device, evaluators
        self.hash = ""
        self._pipeline = self._load()

    def __call__(self, plan: Plan, key: CellKey, photos: Path) -> tuple[Cell, np.ndarray]:
        pipeline = self._pipeline or self._load()
        self._pipeline = None  # if the cell stops half way, parts of an adapter may be left in it
        try:
            done = run_cell(plan, key, photos, pipeline, self.evaluators, self.hash)
            for module, weights in zip(_modules(pipeline), self._weights, strict=True):
                module.load_state_dict(weights)
                module.requires_grad_(False)
            self._pipeline = pipeline
        finally:
            gc.collect()
        return done

    def _load(self) -> DiffusionPipeline:
        pipeline = build_pipeline(self.model, self.device)
        self._weights = [
            {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            for module in _modules(pipeline)
        ]
        self.hash = self.hash or model_hash(pipeline)
        return pipeline


def _modules(pipeline: DiffusionPipeline) -> list[torch.nn.Module]:
    """The networks that an adapter may train: all but the VAE."""
    return [m for name, m in pipeline.components.items() if isinstance(m, torch.nn.Module) and name != "vae"]


def run_cell(
    plan: Plan, key: CellKey, photos: Path, pipeline: DiffusionPipeline, evaluators: Evaluators, digest: str
) -> tuple[Cell, np.ndarray]:
    """Train, draw and score one cell: the cell, and its images (n, h, w, 3) uint8. The pipeline is left trained.

    photos: folder of the subject's. digest: `model_hash` of the untouched model, which the cell records.

    Raises:
        LookforwardError: the photos cannot be used, the training diverges, or a score is not finite.
    """
    reset_peak()
    begun = time.perf_counter()
    (subject, method, seed), one = key, plan.subject(key[0])
    recipe, overrides = plan.methods[method]
    own = {"subject.class_noun": one.class_noun, "subject.photos": str(photos), "run.seed": seed}
    settings = load_settings(recipe, {**overrides, **own})
    loaded, identifier = read_subject(photos, settings), settings.subject.identifier
    components, terms, seconds, parameters, size = None, [], 0.0, 0, 0.0
    try:
        with ExitStack() as result:
            if method != UNTOUCHED:
                components = build(settings, loaded, pipeline)
                run = Run(Path(result.enter_context(tempfile.TemporaryDirectory())), settings)
                started = time.perf_counter()
                terms = list(_train(components, run))
                seconds = time.perf_counter() - started
                parameters = sum(p.numel() for p in components.trainer.parameters.values())
                result.enter_context(result_weights(components, run))
                size = _export_size(components)
            images = _draw(plan, subject, settings, pipeline, identifier if method != UNTOUCHED else "")
    finally:
        if components is not None:
            components.adapter.detach(components.policy)
    words = identifier, one.class_noun, plan.scoring.identifier_in_clip_text
    texts = [clip_text(p, *words) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    references = np.stack([photo.pixels for photo in loaded.photos])
    scores = score_images(build_scores(evaluators, references, one.drawing and one.drawing()), images, texts)
    cell = Cell(
        subject,
        method,
        seed,
        {name: [round(float(x), 6) for x in values] for name, values in scores.items()},
        round(seconds, 2),
        round(peak_memory()),
        last_quarter(terms),
        smooth_curves(terms),
        parameters,
        size,
        {
            "date": now(),
            "seconds": round(time.perf_counter() - begun, 2),
            "device": device_name(pipeline.device),
            "gpu_memory": round(peak_gpu_memory()),
            "model_hash": digest,
            "config_hash": settings_hash(settings) if method != UNTOUCHED else "",
            "photos_hash": photos_hash(photos),
            "versions": versions(),
        },
        plan.settings_of(key),
    )
    if bad := non_finite_scores(cell):
        message = f"{', '.join(bad)} of some images is not a finite number. Can the encoder be trusted?"
        raise LookforwardError(message, code="score-not-finite")
    return cell, images


def _train(components: RunComponents, run: Run) -> Iterator[dict[str, float]]:
    """Train to the run's end, which is earlier where more steps no longer gain; yields the terms of each step."""
    trainer, best = components.trainer, components.best_step
    if best is not None:
        best.measure(trainer, run)  # the untouched model
    for step in train(trainer, run.settings.run.steps):
        yield step.terms
        if best is not None and best.due(step.step):
            best.measure(trainer, run)
            if best.enough(run):
                return


def _export_size(components: RunComponents) -> float:
    """MiB of the weights in an export; of a pipeline folder the networks that were not trained, too."""
    with tempfile.TemporaryDirectory() as folder:
        components.adapter.export(components.policy, Path(folder))
        return round(sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors")) / 2**20, 3)


def _draw(plan: Plan, subject: str, settings: Settings, pipeline: DiffusionPipeline, identifier: str) -> np.ndarray:
    noun = settings.subject.class_noun if settings.subject.noun_in_prompt or not identifier else ""
    prompts = [fill(p, identifier, noun) for p in plan.prompts_of(subject) for _ in range(plan.images)]
    return draw_images(
        pipeline,
        prompts,
        plan.image_seeds(subject, settings.run.seed),
        steps=settings.evaluation.sampler_steps,
        guidance=settings.evaluation.guidance,
        resolution=settings.data.resolution,
    )
