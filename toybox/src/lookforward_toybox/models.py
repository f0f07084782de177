"""The bundled models by name, and which of them is the default."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lookforward.bundle import TOYBOX, BundledModel
from lookforward_toybox import SHIPPED, SHIPPED_128, Weights

DEFAULT = "toybox-sd"  # the model that `toybox` means
Side = Literal[64, 128]  # of an edition of the world, in pixels
WEIGHTS: Mapping[int, Weights] = {64: SHIPPED, 128: SHIPPED_128}


def _encoders(weights: Weights) -> dict[str, Path]:
    return {"clip": weights.clip, "dino": weights.dino, "identity": weights.identity}


def _defaults(file: str) -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads((Path(__file__).parent / file).read_text(encoding="utf-8"))


_SD = BundledModel(
    "toybox-sd", "sd", 64, SHIPPED.pipeline, _encoders(SHIPPED), "lookforward_toybox.MODEL",
    speed=(0.16, 0.55),  # measured on one core, as is the memory
    memory=1300,
    # Measured by `lookforward toybox check`; docs/toybox.md has the same figures, and a test holds the two together
    ceiling={
        "live subjects": {"DINO": 0.805, "CLIP-I": 0.661, "CLIP-T": 0.709, "identity": 0.911, "oracle": 0.912},
        "objects": {"DINO": 0.834, "CLIP-I": 0.680, "CLIP-T": 0.713, "identity": 0.894, "oracle": 0.912},
    },
    defaults=_defaults("defaults.toml"),
    digest="78354d1ac5",
)  # fmt: skip
_DEFAULTS_128 = _defaults("defaults_128.toml")
_FLOW = BundledModel(
    "toybox-128", "sd3", 128, SHIPPED_128.pipeline, _encoders(SHIPPED_128), "lookforward_toybox.MODEL_128",
    speed=(0.25, 1.5),  # an estimate, from an unfinished state on a busy core; so is the memory
    memory=1000,
    defaults=_DEFAULTS_128,
    plain=_DEFAULTS_128["evaluation"],
)  # fmt: skip
_OWN = {model.name: model for model in (_SD, _FLOW)}
MODELS: dict[str, BundledModel] = {TOYBOX: _OWN[DEFAULT], **_OWN}


def side_of(edition: Side | None) -> int:
    """The edition that a command was given; the default model's if it was given none."""
    return edition or MODELS[TOYBOX].size
