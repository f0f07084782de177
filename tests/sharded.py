"""Runs whose weights two processes share: what each of them does."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from conftest import make_pipeline
from lookforward.algorithm.processes import Processes
from lookforward.algorithm.trainer import train
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.core.sharding import gathered, is_sharded
from lookforward.data.subjects import read_subject
from two_processes import join, outcome

STEPS = 4
COMMON: dict[str, Any] = {
    "model.name": "none", "model.device": "cpu", "subject.class_noun": "teapot", "data.resolution": 32,
    "optimizer.learning_rate": 1e-3, "run.batch_size": 2, "run.steps": STEPS, "data.class_images": 2,
    "data.class_image_steps": 2,
}  # fmt: skip
# What the critic sees, and how often the policy acts, differs from one to the other
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "look-forward": ("look-forward", {"optimizer.ema": 0.9, "optimizer.max_grad_norm": 0.1}),
    "output": ("look-forward", {"objective.preservation": "output", "model.gradient_checkpointing": True}),
    "trajectory": ("state-action", {
        "objective.reward": "look-forward", "critic.target": "monte-carlo", "objective.transition": "policy",
        "objective.stride": 200, "critic.steps": 2, "run.accumulate": 2, "run.batch_size": 2, "data.class_images": 2,
    }),
    "draft": ("draft", {"objective.reward": "ssim", "baseline.sampler_steps": 3}),
    "lora": ("look-forward", {"adapter.name": "lora", "model.weights": "fp32"}),
}  # fmt: skip


def run_case(name: str, photos: Path, processes: Processes, **given: Any) -> tuple[dict[str, Tensor], float]:
    """The outcome of a run, with whole weights, and which share of the trained weights' bytes this process held."""
    recipe, more = CASES[name]
    settings = load_settings(recipe, COMMON | more | given | {"run.shard": processes.shard})
    trainer = build(settings, read_subject(photos, settings), make_pipeline(), processes=processes).trainer
    results = list(train(trainer, STEPS))
    own = sum((p.to_local() if is_sharded(p) else p).numel() for p in trainer.parameters.values())
    share = own / sum(p.numel() for p in trainer.parameters.values())
    if trainer.averages is not None:
        trainer.parameters |= {f"average/{name}": one for name, one in trainer.averages.values.items()}
    trainer.parameters = {name: p.detach() for name, p in gathered(trainer.parameters, keep=True).items()}
    return outcome(trainer, results), share


def run_cases(index: int, port: int, photos: Path, folder: Path) -> None:
    """In a process of its own: every case."""
    from lookforward.assembly.processes import join_processes, leave_processes

    join(index, port)
    os.environ["LOOKFORWARD_CACHE"] = str(folder / "cache")
    processes, shares = join_processes("cpu", shard=True), {}
    for name in CASES:
        tensors, shares[name] = run_case(name, photos, processes)
        save_file(tensors, folder / f"{name}-{index}.safetensors")
    (folder / f"shares-{index}.json").write_text(json.dumps(shares))
    leave_processes()
