"""Where the parts of a pipeline are: on the device, or in the CPU's memory until something needs them."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

_REST = torch.device("cpu")


class Placement:
    """The parts of one pipeline that rest in the CPU's memory.

    Args:
        device: where the pipeline computes.

    Attributes:
        resting: parts by the pipeline's own names; none until `rest` names some.
    """

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self.pipeline, self.device = pipeline, device
        self.resting: tuple[str, ...] = ()

    def rest(self, names: Collection[str]) -> None:
        """Move parts off the device, from now on."""
        self.resting = tuple(names)
        self._move(self.resting, _REST)

    @contextmanager
    def awake(self, names: Collection[str] | None = None) -> Iterator[None]:
        """Bring back resting parts while the context lasts: those of some names, or all."""
        brought = tuple(name for name in self.resting if names is None or name in names)
        self._move(brought, self.device)
        try:
            yield
        finally:
            self._move(brought, _REST)

    def _move(self, names: tuple[str, ...], device: torch.device) -> None:
        for name in names:
            getattr(self.pipeline, name).to(device)
        if names and self.device.type == "cuda" and device == _REST:
            torch.cuda.empty_cache()


def offload_blocks(denoiser: Any, device: torch.device) -> None:
    """Keep a frozen denoiser in the CPU's memory, and each of its layers on the device while it computes.

    To be called before an adapter is attached, whose layers then stay on the device. It saves memory in training only
    with gradient checkpointing, since a layer's weights are kept for its backward pass.
    """
    streams = device.type == "cuda"  # the next layer travels while this one computes
    denoiser.enable_group_offload(
        onload_device=device, offload_device=_REST, offload_type="leaf_level", use_stream=streams
    )


def keeping_weights() -> AbstractContextManager[object]:
    """Within it, what is saved for the backward pass stays as the forward pass saw it.

    An offloaded layer gets its weights replaced after it has computed, and convolutions save the weight itself.
    """
    return saved_tensors_hooks(Tensor.detach, lambda saved: saved)


def is_offloaded(denoiser: nn.Module) -> bool:
    """Whether `offload_blocks` was called on it."""
    return any(hasattr(module, "_diffusers_hook") for module in denoiser.modules())
