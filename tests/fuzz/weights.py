"""safetensors files of runs, caches and encoders: their metadata, names, shapes and kinds."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fuzz import tensors
from fuzz.common import as_json, attempt, fresh, place, written
from lookforward.assembly.best_step import BestStep
from lookforward.config.settings import Settings
from lookforward.core.types import CachedLatents
from lookforward.models.encoders.metadata import is_evaluation_only
from lookforward.models.encoding_cache import EncodingCache
from lookforward.models.encoding_cache import _read as read_cached
from lookforward.models.photo_encoder import CONFIG, WEIGHTS, load_encoder
from lookforward.runs.checkpoint import load_newest
from lookforward.runs.folder import Run
from lookforward.runs.step_choice import Choice
from lookforward.whole import check_whole, tensors_state, write_sums
from tiny import tiny_trainer

_PHOTOS = torch.ones(2, 3, 8, 8)


def checkpoint(data: bytes) -> None:
    """A checkpoint whose digests fit, into the trainer of a run."""
    given = as_json(data, "state", "tensors")
    folder = fresh("checkpoints") / "step-000002"
    folder.mkdir()
    tensors.write(folder / "state.safetensors", given)
    (folder / "state.json").write_text(json.dumps(given["state"]))
    write_sums(folder)
    trainer = tiny_trainer(critic="adam")
    assert load_newest(trainer, folder.parent)
    assert trainer.step == 2


def candidate(data: bytes) -> None:
    """Weights of the best step, put into the policy."""
    run = Run(fresh("run"), Settings())
    run.candidates.mkdir()
    tensors.write(run.candidates / "step-000002.safetensors", as_json(data, "tensors"))
    best = BestStep(Settings(), SimpleNamespace())  # pyright: ignore[reportArgumentType]
    with best.restored(tiny_trainer(), run, Choice(2, 1, 0.5)):
        pass


def cache(data: bytes) -> None:
    """An encoding without a seal, as an earlier version wrote it: read, or made again."""
    path = place() / "cached.safetensors"
    tensors.write(path, as_json(data, "tensors"))
    _cached(path)


def cache_file(data: bytes) -> None:
    _cached(written("cached.safetensors", data))


def _cached(path: Path) -> None:
    policy: Any = SimpleNamespace(
        family=SimpleNamespace(name="sd"), dtype=torch.float32, device=torch.device("cpu"), encode_prompts=None
    )
    encodings = EncodingCache(policy, "model", "float32")
    encodings._path = lambda *_: path  # pyright: ignore[reportAttributeAccessIssue]
    read_cached(path)
    encodings.latents(_PHOTOS, lambda photos: CachedLatents(photos + 1, photos, 0.5))


def file(data: bytes) -> None:
    """The header of any file."""
    path = written("model.safetensors", data)
    is_evaluation_only(path.parent)
    tensors_state(path)
    check_whole(path)


def photo_encoder(data: bytes) -> None:
    """`encoder.json` and the weights beside it."""
    given = as_json(data, "sizes", "tensors")
    folder = fresh("photo-encoder")
    (folder / CONFIG).write_text(json.dumps(given["sizes"]))
    tensors.write(folder / WEIGHTS, given)
    write_sums(folder)
    try:
        load_encoder(folder)
    finally:
        shutil.rmtree(folder)


READERS = (checkpoint, candidate, cache, cache_file, file, photo_encoder)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
