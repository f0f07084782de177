"""Encoded photos and prompts on disk, under the name of everything that they depend on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lookforward.core.types import CachedLatents, Conditioning
from lookforward.data.class_images import cache_folder
from lookforward.errors import LookforwardError, warn
from lookforward.files import make_folder, writing
from lookforward.models.policy import DiffusionPolicy
from lookforward.records import parse_json, structure
from lookforward.whole import tensors_state, write_sealed_tensors

_REMEDY = "Free disk space, set LOOKFORWARD_CACHE to a folder that can be written, or leave model.cache out."


@dataclass(frozen=True)
class _About:
    """What the metadata of a file say: numbers by name, and how each tensor lay in memory."""

    numbers: dict[str, float]
    strides: dict[str, list[int]]


class EncodingCache:
    """What one model makes of photos and of prompts, read from disk where it was made before.

    A file is named by the digest of all that its bits depend on: model, family, number formats, device and
    versions of libraries; the photos' pixels, or the texts that were encoded together, in their order.

    Args:
        policy: not trained yet, or with a text encoder that stays as it is.
        model: the fingerprint of its pipeline. weights: the number format of frozen parts.
    """

    def __init__(self, policy: DiffusionPolicy, model: str, weights: str) -> None:
        self.policy = policy
        formats = [weights, str(policy.dtype), policy.device.type, torch.get_num_threads()]
        formats += [one.__version__ for one in (torch, diffusers, transformers)]  # whose code encodes
        self._about = [policy.family.name, model, *formats]

    def latents(self, photos: Tensor, encode: Callable[[Tensor], CachedLatents]) -> CachedLatents:
        """encode(photos) of photos (n, 3, h, w).

        Raises:
            LookforwardError: the cache cannot be written.
        """
        pixels = hashlib.blake2b(photos.cpu().contiguous().numpy().tobytes()).hexdigest()
        path = self._path("latents", [list(photos.shape), pixels])
        if (found := _read(path, ("mean", "std", "scaling", "shift"))) is None:
            made = encode(photos)
            _write(path, {"mean": made.mean, "std": made.std}, {"scaling": made.scaling, "shift": made.shift})
            return made
        tensors, numbers = found
        there = {name: tensor.to(photos.device) for name, tensor in tensors.items()}
        return CachedLatents(there["mean"], there["std"], numbers["scaling"], numbers["shift"])

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The policy's `encode_prompts`.

        Raises:
            LookforwardError: the cache cannot be written.
        """
        path = self._path("prompts", list(prompts))
        if (found := _read(path, ("tokens",))) is None:
            made = self.policy.encode_prompts(prompts)
            whole = {"tokens": made.tokens, "mask": made.mask, "pooled": made.pooled}
            tensors = {name: tensor for name, tensor in whole.items() if tensor is not None}
            _write(path, tensors | {f"extra.{name}": tensor for name, tensor in made.extra.items()}, {})
            return made
        tensors = {name: tensor.to(self.policy.device) for name, tensor in found[0].items()}
        extra = {name.removeprefix("extra."): one for name, one in tensors.items() if name.startswith("extra.")}
        return Conditioning(tensors["tokens"], tensors.get("mask"), tensors.get("pooled"), extra)

    def _path(self, kind: str, about: Any) -> Path:
        key = json.dumps([kind, self._about, about], ensure_ascii=False)
        return cache_folder() / "encoded" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def _read(path: Path, needed: Sequence[str] = ()) -> tuple[dict[str, Tensor], dict[str, float]] | None:
    """Tensors and numbers of a file; None if it is missing or damaged, or lacks one that is needed."""
    try:
        state = tensors_state(path)
        if state == "damaged":
            warn(f"{path} is damaged: it is made again.")
            return None
        with safe_open(path, "pt") as file:
            about = structure(parse_json(file.metadata()["about"]), _About, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if missing := [name for name in needed if name not in tensors and name not in about.numbers]:
            raise KeyError(missing[0])
        found = {name: _laid_out(tensors[name], about.strides[name]) for name in tensors}, about.numbers
        if state == "unknown":
            warn(f"{path} has no digest: an earlier version wrote it, so damage to it cannot be noticed.")
        return found
    except FileNotFoundError:
        return None
    except (LookforwardError, OSError, SafetensorError, ValueError, KeyError, TypeError):
        warn(f"{path} is damaged: it is made again.")
        return None


def _laid_out(tensor: Tensor, strides: Sequence[int]) -> Tensor:
    """A copy that lies in memory as the tensor did when it was made: last bits of what is computed depend on it.

    Raises:
        ValueError: it would take other memory than its own numbers.
    """
    size = 1 + sum((count - 1) * step for count, step in zip(tensor.shape, strides, strict=True))
    if tensor.numel() and (min(strides, default=0) < 0 or size != tensor.numel()):
        raise ValueError(f"strides {list(strides)} do not fit a shape {list(tensor.shape)}")
    return torch.empty_strided(tensor.shape, tuple(strides), dtype=tensor.dtype).copy_(tensor)


def _write(path: Path, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
    with writing(path, _REMEDY):
        make_folder(path.parent)
    strides = {name: tensor.stride() for name, tensor in tensors.items()}
    about = json.dumps({"numbers": numbers, "strides": strides})
    write_sealed_tensors(path, tensors, {"about": about}, shared=True)
