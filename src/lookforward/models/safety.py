"""The safety checker of Stable Diffusion 1: it blackens images that it takes for sexual.

It is a CLIP image encoder with fixed thresholds. docs/provenance.md says what it misses, and why it is off by default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelInfo, snapshot_download
from numpy.typing import NDArray

from lookforward.bundle import BUNDLED
from lookforward.errors import LookforwardError
from lookforward.models.weight_files import load_weights, local_folder

CHECKER, PROCESSOR = "safety_checker", "feature_extractor"  # folders of a pipeline
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class SafetyChecker:
    """A loaded checker, on the device of the pipeline whose images it looks at."""

    model: Any
    processor: Any

    @torch.no_grad()
    def __call__(self, images: Sequence[Pixels]) -> tuple[list[Pixels], int]:
        """The images, (h, w, 3) uint8, with black ones in the place of those that it flags; and how many it flags."""
        views = self.processor([np.asarray(image) for image in images], return_tensors="pt").pixel_values
        weight = next(self.model.parameters())
        blank = [np.zeros((1, 1, 3), np.float32) for _ in images]  # it blackens what it is given
        _, flags = self.model(images=blank, clip_input=views.to(weight.device, weight.dtype))
        checked = [np.zeros_like(image) if flag else image for image, flag in zip(images, flags, strict=True)]
        return checked, sum(flags)


def load_safety_checker(model: str, device: torch.device | str, revision: str = "") -> SafetyChecker:
    """The checker that comes with a base model. model: a folder, or a hub id whose files are fetched if need be.

    revision: branch, tag or commit of a hub id; the main branch if empty.

    Raises:
        LookforwardError: the model has none (code "safety-checker-missing"), or it cannot be loaded.
    """
    folder = None if model in BUNDLED else local_folder(model, _fetch, revision)
    if folder is None or not all((folder / name).is_dir() for name in (CHECKER, PROCESSOR)):
        raise LookforwardError(
            f"{model} has no safety checker: leave out --safety-checker. Of the models, Stable Diffusion 1 has one.",
            "safety-checker-missing",
        )
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    checker = load_weights(StableDiffusionSafetyChecker, folder / CHECKER)
    return SafetyChecker(checker.to(device).eval(), CLIPImageProcessor.from_pretrained(str(folder / PROCESSOR)))


def _fetch(name: str, found: ModelInfo | None, revision: str) -> Path:
    wanted = [f"{CHECKER}/config.json", f"{CHECKER}/model.safetensors", f"{PROCESSOR}/*.json", "model_index.json"]
    here = found is None
    return Path(snapshot_download(name, revision=revision or None, allow_patterns=wanted, local_files_only=here))
