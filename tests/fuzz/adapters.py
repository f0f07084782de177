"""Exports of every kind of adapter whose digests fit, put into a pipeline: files, metadata, manifest."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from conftest import make_pipeline
from fuzz import tensors
from fuzz.common import NoInput, as_json, attempt, fresh
from lookforward.exports.load import MANIFEST, apply_export
from lookforward.whole import write_sums


@cache
def pipeline() -> Any:
    """The model that all are for."""
    return make_pipeline()


def folder_of(given: Any) -> Path:
    """The folder that JSON describes: {"manifest": {...}, "files": {name: a tensors file, or other JSON}}."""
    folder = fresh("adapter")
    try:
        for name, content in given["files"].items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise NoInput
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".safetensors"):
                tensors.write(path, content)
            else:
                path.write_text(json.dumps(content))
        (folder / MANIFEST).write_text(json.dumps(given["manifest"]))
    except (AttributeError, TypeError, OSError, ValueError) as error:
        raise NoInput from error
    write_sums(folder)
    return folder


def put(data: bytes, strength: float = 1.0) -> None:
    """Put it in, and draw with it."""
    folder, changed = folder_of(as_json(data, "manifest", "files")), copy.deepcopy(pipeline())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        apply_export(changed, folder, strength)
        changed("a photo of <sks> teapot", num_inference_steps=1, height=32, width=32, output_type="latent")


def put_at_half(data: bytes) -> None:
    put(data, 0.5)


READERS = (put, put_at_half)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
