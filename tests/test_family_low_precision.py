"""Every family trains a LoRA over int8 weights, its blocks offloaded, and predicts about what single precision does."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs import SETTINGS
from lookforward.algorithm.environment import act_on
from lookforward.algorithm.trainer import train
from lookforward.assembly.training import build
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from tiny_families import TINY

WITHIN = 0.03  # of x̂_0's largest number; docs/memory.md states it
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs the extra memory"),
]


@pytest.fixture(params=TINY)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    TINY[request.param]().save_pretrained(tmp_path / "model", safe_serialization=True)
    return tmp_path / "model"


def test_int8_and_offloaded_blocks(folder: Path, photos: Path) -> None:
    found: list[Tensor] = []
    for more in ({}, {"model.weights": "int8", "model.offload": True}):
        given: dict[str, Any] = SETTINGS | more | {
            "model.name": str(folder), "model.device": "cpu", "adapter.name": "lora", "subject.class_noun": "teapot",
            "run.steps": 2, "subject.photos": str(photos),
        }  # fmt: skip
        settings = load_settings("look-forward", given)
        trainer = build(settings, read_subject(photos, settings)).trainer
        batch = trainer.references.draw(4, trainer.policy.path, torch.Generator().manual_seed(0))
        found.append(predicted(trainer, batch))
        assert all(torch.isfinite(torch.tensor(result.terms["loss"])) for result in train(trainer, 2))
        assert any(parameter.grad is not None for parameter in trainer.parameters.values())
    exact, low = found
    error = ((low - exact).abs().amax() / exact.abs().amax()).item()
    print(f"x̂_0 of int8: {error:.4f}")
    assert 0 < error < WITHIN


@torch.no_grad()
def predicted(trainer: Any, batch: Any) -> Tensor:
    """x̂_0 of a batch, before any step."""
    transition, _ = act_on(trainer.policy, batch, trainer.policy.encode_prompts(batch.prompts))
    return transition.x_0_hat
