"""Cells on a real model: loaded once, and restored in place after each."""

import gc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from lookforward.assembly import Evaluators, build_evaluators, build_pipeline, model_hash
from lookforward.benchmark.cell import Cell, require_same_model
from lookforward.benchmark.grid import Weights, restore, run_cell, snapshot
from lookforward.benchmark.plan import Key, Plan


@dataclass(frozen=True)
class ModelSource:
    """What a worker loads. dino, clip, dinov2: folders or hub ids of other encoders; the benchmark's own where None.

    extra: further scores, see `build_evaluators`. folder: of the benchmark, whose cells must be of the same weights.
    """

    model: str
    dino: str | None = None
    clip: str | None = None
    extra: tuple[str, ...] = ()
    dinov2: str | None = None
    folder: Path | None = None

    def start(self, worker: int) -> "ModelRunner":
        """Load it for one of several workers, each on a GPU of its own where there are some.

        Raises:
            LookforwardError: the model or an encoder cannot be loaded, or `folder` has cells of other weights.
        """
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = f"cuda:{worker % count}" if count else "auto"
        judges = build_evaluators(
            self.model, device=device, extra=self.extra, dino=self.dino, clip=self.clip, dinov2=self.dinov2
        )
        runner = ModelRunner(self, device, judges)
        if self.folder is not None:
            require_same_model(self.folder, runner.hash)
        return runner


class ModelRunner:
    """A `CellRunner` that holds the untouched model between cells."""

    def __init__(self, source: ModelSource, device: str, judges: Evaluators) -> None:
        self.source, self.device, self.judges = source, device, judges
        self.pipeline: StableDiffusionPipeline | None = None
        self.weights: Weights = []
        self.hash = ""
        self._load()  # a model that cannot be loaded is told at once

    def __call__(self, plan: Plan, key: Key, photos: Path) -> tuple[Cell, np.ndarray]:
        pipeline = self.pipeline or self._load()
        try:
            done = run_cell(plan, key, photos, pipeline, self.judges, self.hash)
            restore(pipeline, self.weights)
        except BaseException:
            # Where it stopped half way, parts of an adapter may be left in it
            self.pipeline, self.weights = None, []
            raise
        finally:
            gc.collect()
        return done

    def _load(self) -> StableDiffusionPipeline:
        pipeline = build_pipeline(self.source.model, self.device)
        self.weights = snapshot(pipeline)
        self.hash = self.hash or model_hash(pipeline)
        self.pipeline = pipeline
        return pipeline
