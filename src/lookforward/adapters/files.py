"""Tensors in a file of safetensors that is the same, to the byte, whenever its content is."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """Write tensors and what is said about them (safetensors' metadata).

    safetensors itself writes the latter in an order by chance, so that no two files of a run would be equal.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(said))
    end = 8 + int.from_bytes(data[:8], "little")  # the header's length goes before it
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(said.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
