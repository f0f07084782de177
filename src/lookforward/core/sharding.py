"""Weights that are sharded over the processes of a run (torch's FSDP2): each holds a part of every tensor.

What reads such a tensor whole, or replaces its numbers, does so by these functions, which leave others as they are.
torch averages the gradients of sharded weights over the processes in the backward pass.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of a tensor."""
    return hasattr(tensor, "full_tensor")  # a DTensor, whose class takes a second to import


def whole(tensor: Tensor) -> Tensor:
    """All numbers of a tensor. Every process must call it, and for the same tensors in the same order."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def share(value: Tensor, of: Tensor) -> Tensor:
    """The part of `value`, which is whole in each process, that this process holds of the tensor `of`."""
    if not is_sharded(of):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(of, DTensor)
    part = distribute_tensor(value.to(of.device), of.device_mesh, of.placements, src_data_rank=None)  # nothing is sent
    return torch.empty_like(of).copy_(part)  # without the rest of `value`


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Tensors, whole, in the CPU's memory; none of them unless `keep`. One at a time is whole on the device."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        numbers = whole(tensor.detach())
        if keep:
            found[name] = numbers.cpu()
    return found
