"""What an export is, in a few words beside it, and an export to a pipeline that draws with it."""

import json
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from lookforward.build.pipeline import build_pipeline
from lookforward.config import Config
from lookforward.errors import LookforwardError
from lookforward.run import MANIFEST


def manifest_of(config: Config) -> dict[str, Any]:
    """What `load_export` must know of a run's export."""
    names = ("adapter", "model", "identifier", "class_noun", "noun_in_prompt", "resolution", "sample_steps", "guidance")
    return {"format": 1, **{name: getattr(config, name) for name in names}}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        LookforwardError: the folder is no export.
    """
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LookforwardError(f"{folder} is no export: its {MANIFEST} cannot be read. Give RUN/export.") from error


def load_export(folder: Path, device: str = "auto") -> StableDiffusionPipeline:
    """The pipeline of an export: the pipeline folder itself, or its base model with the adapter put in.

    Raises:
        LookforwardError: the folder is no export, or its base model cannot be loaded.
    """
    manifest = read_manifest(folder)
    match manifest["adapter"]:
        case "full":
            return build_pipeline(str(folder), device)
        case other:
            raise LookforwardError(f"{folder} holds an adapter {other!r} that this version cannot load.")
