"""safetensors files from JSON: {"tensors": {name: [kind, shape]}, "metadata": {...}}."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fuzz.common import NoInput

_KINDS = {"f32": torch.float32, "f16": torch.float16, "i64": torch.int64, "u8": torch.uint8, "bool": torch.bool}
_MOST = 200_000  # numbers of a file


def describe(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, Any]:
    """The JSON of a file."""
    names = {kind: name for name, kind in _KINDS.items()}
    return {"tensors": {n: [names[t.dtype], list(t.shape)] for n, t in tensors.items()}, "metadata": metadata}


def write(path: Path, given: Any) -> None:
    """Write the file, of numbers that depend on the names alone.

    Raises:
        NoInput: it is no file that could be.
    """
    try:
        shapes = {name: (_KINDS[kind], [int(n) for n in shape]) for name, (kind, shape) in given["tensors"].items()}
        if sum(math.prod(shape) for _, shape in shapes.values()) > _MOST or any(
            n < 0 for _, s in shapes.values() for n in s
        ):
            raise NoInput
        tensors = {name: _values(name, kind, shape) for name, (kind, shape) in shapes.items()}
        metadata = {name: value for name, value in given.get("metadata", {}).items() if isinstance(value, str)}
        save_file(tensors, path, metadata)
    except NoInput:
        raise
    except Exception as error:  # JSON of another form; names that are no text
        raise NoInput from error


def _values(name: str, kind: torch.dtype, shape: list[int]) -> Tensor:
    generator = torch.Generator().manual_seed(len(name))
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).abs().to(kind)
    if kind == torch.uint8 and shape == list(generator.get_state().shape):
        return generator.get_state()
    return torch.zeros(shape, dtype=kind)
