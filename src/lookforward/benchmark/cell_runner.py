"""Train, draw and score one cell on a model that is loaded once and restored after each cell."""

import gc
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from lookforward.algorithm.trainer import train
from lookforward.api import read_subject
from lookforward.assembly import Evaluators, RunComponents, build, build_evaluators, build_scores
from lookforward.assembly.components import result_weights
from lookforward.assembly.validation import undisturbed
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
    references = np.stack([photo.pixels for photo in loaded.photos])
    scores = build_scores(evaluators, references, one.drawing and one.drawing())
    words = identifier, one.class_noun, plan.scoring.identifier_in_clip_text
    texts = [clip_text(p, *words) for p in plan.prompts_of(subject) for _ in range(plan.images)]

    def drawn_and_scored() -> tuple[np.ndarray, dict[str, list[float]]]:
        images = _draw(plan, subject, settings, pipeline, identifier if method != UNTOUCHED else "")
        found = score_images(scores, images, texts)
        return images, {name: [round(float(x), 6) for x in values] for name, values in found.items()}

    components, training, parameters, size = None, Training(), 0, 0.0
    try:
        with ExitStack() as result:
            if method != UNTOUCHED:
                components = build(settings, loaded, pipeline)
                run = Run(Path(result.enter_context(tempfile.TemporaryDirectory())), settings)
                training = _train(components, run, plan.scoring.steps, lambda: drawn_and_scored()[1])
                parameters = sum(p.numel() for p in components.trainer.parameters.values())
                result.enter_context(result_weights(components, run))
                size = _export_size(components)
            images, found = drawn_and_scored()
    finally:
        if components is not None:
            components.adapter.detach(components.policy)
    cell = Cell(
        subject,
        method,
        seed,
        found,
        round(training.seconds, 2),
        round(peak_memory()),
        last_quarter(training.terms),
        smooth_curves(training.terms) | training.measured,
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
        training.scored,
    )
    if bad := non_finite_scores(cell):
        message = f"{', '.join(bad)} of some images is not a finite number. Can the encoder be trusted?"
        raise LookforwardError(message, code="score-not-finite")
    return cell, images


@dataclass
class Training:
    """What a training left. terms: of each step. measured: curves of what it measured of itself. scored: see
    `Cell.steps`. seconds: it took, without what was scored.
    """

    terms: list[dict[str, float]] = field(default_factory=list)
    measured: dict[str, list[list[float]]] = field(default_factory=dict)
    scored: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: float = 0.0


def _train(
    components: RunComponents, run: Run, scored: Collection[int], score: Callable[[], dict[str, list[float]]]
) -> Training:
    """Train to the run's end, which is earlier where more steps no longer gain. scored: steps after which to `score`.

    Neither scoring nor measuring moves a random stream of the training.
    """
    trainer, best, done = components.trainer, components.best_step, Training()

    def measure() -> bool:
        """Whether the run has gained nothing for long enough."""
        if best is None or not best.due(trainer.step):
            return False
        for name, value in best.measure(trainer, run).items():
            done.measured.setdefault(f"validation/{name}", []).append([trainer.step, value])
        return trainer.step > 0 and best.enough(run)

    started, away = time.perf_counter(), 0.0
    measure()  # the untouched model
    for step in train(trainer, run.settings.run.steps):
        done.terms.append(step.terms)
        enough = measure()
        if step.step in scored:
            before = time.perf_counter()
            with undisturbed(trainer), torch.no_grad(), trainer.averaged(), components.policy.placement.awake():
                done.scored[str(step.step)] = score()
            away += time.perf_counter() - before
        if enough:
            break
    done.seconds = time.perf_counter() - started - away
    return done


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
