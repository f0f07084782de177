"""Metrics that stay on the device while a step runs, and are read once at its end."""

from collections.abc import Mapping

import torch
from torch import Tensor

Metrics = dict[str, Tensor | float]  # numbers, or scalars that were not read yet


def read(metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Metrics as plain numbers, in their order.

    Each read of a tensor waits until the device has done all that it was given. So all are read together.
    """
    tensors = [value.detach() for value in metrics.values() if isinstance(value, Tensor)]
    if not tensors:
        return {name: float(value) for name, value in metrics.items()}
    device = tensors[0].device
    kind = torch.float32 if device.type == "mps" else torch.float64  # Apple's accelerator has no double precision
    found = iter(torch.stack([value.to(device, kind) for value in tensors]).tolist())
    return {name: next(found) if isinstance(value, Tensor) else value for name, value in metrics.items()}
