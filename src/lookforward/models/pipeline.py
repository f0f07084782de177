"""A model's name to its pipeline, and the device it runs on."""

from pathlib import Path
from typing import Any

import torch

from lookforward.bundle import bundle_of
from lookforward.errors import LookforwardError
from lookforward.models.families import family_of
from lookforward.models.loading import load_pipeline


def build_pipeline(model: str, device: str = "auto") -> Any:
    """The pipeline of "toybox", a folder or a hub id, with its family's deterministic sampler."""
    bundle = bundle_of(model)
    source: str | Path = bundle.PIPELINE if bundle else model
    pipeline = load_pipeline(source, find_device(device))
    family_of(pipeline).set_sampler(pipeline)
    return pipeline


def find_device(device: str) -> str:
    """What "auto" means on this machine; any other name must be one that torch can use here."""
    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise LookforwardError(
                f"device = {device!r} cannot be used here: {reason}. Give cpu, or auto.", code="device-unusable"
            ) from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
