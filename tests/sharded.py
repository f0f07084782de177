"""Runs whose weights two processes share: what each of them does."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from conftest import make_pipeline
from lookforward.algorithm.processes import Processes
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.core.sharding import gathered, is_sharded
from lookforward.core.types import StepResult
from lookforward.data.subjects import read_subject
from tiny_families import TINY
from two_processes import join, outcome

STEPS = 3
COMMON: dict[str, Any] = {
    "model.name": "none", "model.device": "cpu", "subject.class_noun": "teapot", "data.resolution": 32,
    "optimizer.learning_rate": 1e-4, "run.batch_size": 2, "run.steps": STEPS, "data.class_images": 2,
    "data.class_image_steps": 2,
}  # fmt: skip
# What the critic sees, and how often the policy acts, differs from one to the other
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "look-forward": ("look-forward", {"optimizer.ema": 0.9, "optimizer.max_grad_norm": 0.1}),
    "output": ("look-forward", {"objective.preservation": "output", "model.gradient_checkpointing": True}),
    "trajectory": ("state-action", {
        "objective.reward": "look-forward", "critic.target": "monte-carlo", "critic.optimizer": "sgd",
        "objective.transition": "policy", "objective.stride": 200, "critic.steps": 2, "run.accumulate": 2,
    }),
    "draft": ("draft", {"objective.reward": "ssim", "baseline.sampler_steps": 3}),
    "lora": ("look-forward", {"adapter.name": "lora"}),
}  # fmt: skip


def run_case(name: str, photos: Path, processes: Processes) -> tuple[dict[str, Tensor], float, dict[str, Tensor]]:
    """The outcome of a run, with whole weights; which share of the trained weights this process held; the beginning."""
    recipe, more = CASES[name]
    settings = load_settings(recipe, COMMON | more | {"run.shard": processes.shard})
    trainer = build(settings, read_subject(photos, settings), make_pipeline(), processes=processes).trainer
    begun = _whole_outcome(trainer, [])
    results = list(train(trainer, STEPS))
    parameters: list[Any] = list(trainer.parameters.values())
    own = sum((p.to_local() if is_sharded(p) else p).numel() for p in parameters)
    share = own / sum(p.numel() for p in trainer.parameters.values())
    return _whole_outcome(trainer, results), share, begun


def _whole_outcome(trainer: Trainer, results: list[StepResult]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = dict(trainer.parameters)
    if trainer.averages is not None:
        weights |= {f"average/{name}": one for name, one in trainer.averages.values.items()}
    whole: Any = {name: one.clone() for name, one in gathered(weights, keep=True).items()}
    return outcome(replace(trainer, parameters=whole), results)


def run_cases(index: int, port: int, photos: Path, folder: Path, names: list[str]) -> None:
    """In a process of its own: some of the cases."""
    from lookforward.assembly.processes import join_processes, leave_processes

    join(index, port)
    os.environ["LOOKFORWARD_CACHE"] = str(folder / "cache")
    processes, shares = join_processes("cpu", shard=True), {}
    for name in names:
        tensors, shares[name], _ = run_case(name, photos, processes)
        save_file(tensors, folder / f"{name}-{index}.safetensors")
    (folder / f"shares-{index}.json").write_text(json.dumps(shares))
    leave_processes()


EXPORTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in TINY} | {
    "lora": ("sd", {"adapter.name": "lora"}),
    "lora-bf16": ("sd", {"adapter.name": "lora", "model.weights": "bf16", "model.precision": "bf16"}),
}


def export_one(name: str, photos: Path, model: Path, folder: Path, processes: Processes) -> None:
    """One step on what an adapter trains in a family's pipeline, text encoders too, and its export."""
    family, more = EXPORTS[name]
    asked = {"objective.prior_weight": 0.0, "run.shard": processes.shard, "model.name": str(model)}
    settings = load_settings("look-forward", COMMON | asked | more)
    pipeline = TINY[family]() if not more else None
    components = build(settings, read_subject(photos, settings), pipeline, processes=processes)
    for _ in train(components.trainer, 1):
        pass
    with components.shards.whole(processes.main) if components.shards else nullcontext():
        if processes.main:
            folder.mkdir(parents=True)
            components.adapter.export(components.policy, folder)


def export_all(index: int, port: int, photos: Path, model: Path, folder: Path) -> None:
    """In a process of its own."""
    from lookforward.assembly.processes import join_processes, leave_processes

    join(index, port)
    processes = join_processes("cpu", shard=True)
    for name in EXPORTS:
        export_one(name, photos, model, folder / name, processes)
    leave_processes()
