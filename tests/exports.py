"""Exports of the tiny model without any training: weights by chance, so that each adapter visibly does something."""

from pathlib import Path
from typing import Any

import torch

from conftest import make_pipeline
from lookforward.assembly.adapter import build_adapter
from lookforward.config.recipe import load_settings
from lookforward.exports.card import Card
from lookforward.exports.load import manifest_of, model_hash
from lookforward.exports.write import export
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from tiny import seeded

SETTINGS: dict[str, Any] = {
    "data.resolution": 32,
    "evaluation.sampler_steps": 2,
    "evaluation.guidance": 3.0,
    "subject.class_noun": "teapot",
}


def make_export(folder: Path, model: Path, adapter: str, *, seed: int = 1, size: float = 0.3, **settings: Any) -> Path:
    """An export of `adapter` on `model`, its parameters moved by up to `size` from where training would begin."""
    given = {**SETTINGS, "model.name": str(model), "adapter.name": adapter, **settings}
    config = load_settings("dreambooth", given)
    policy = DiffusionPolicy(build_pipeline(str(model), "cpu"))
    digest, made = model_hash(policy.pipeline), build_adapter(config, seeded(seed))
    generator = seeded(seed)
    with torch.no_grad():
        for _, parameter in sorted(made.attach(policy).items()):
            parameter += size * torch.randn(parameter.shape, generator=generator)
    manifest = manifest_of(config, digest)
    export(made, policy, folder, manifest, Card(manifest, config))
    return folder


def make_model(folder: Path, seed: int) -> Path:
    make_pipeline(seed).save_pretrained(folder, safe_serialization=True)
    return folder
