"""Toybox, the embedded default: a small Stable Diffusion of its own, and the world that it was trained on."""

from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"
MODEL = _WEIGHTS / "pipeline"  # a StableDiffusionPipeline folder
CLIP = _WEIGHTS / "clip"  # a transformers CLIPModel folder
DINO = _WEIGHTS / "dino"  # a transformers ViTModel folder
IDENTITY = _WEIGHTS / "identity"  # a transformers ResNetModel folder: a second opinion on whom an image shows
JUDGE = _WEIGHTS / "judge"  # a transformers ResNetForImageClassification folder: names what an image shows
