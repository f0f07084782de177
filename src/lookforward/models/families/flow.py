"""What families on a rectified flow share: the levels that their sampler shifts, Euler steps, and packed latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

if TYPE_CHECKING:
    from lookforward.core.path import Density, NoisePath


def sampled_path(scheduler: Any, mu: float | None, density: Density = "uniform") -> NoisePath:
    """The levels that a `FlowMatchEulerDiscreteScheduler` gives a trajectory of all its T steps.

    mu: the logarithm of the shift, for a scheduler that shifts by the size of the image. Such a scheduler's own table
    is not shifted, so that training on it would draw other levels than sampling passes through. density: how training
    draws them.
    """
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler

    from lookforward.core.path import rectified_flow

    fresh: Any = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)  # drawing changes its table
    count = fresh.config["num_train_timesteps"]
    fresh.set_timesteps(sigmas=np.linspace(1.0, 1 / count, count), mu=mu)
    return rectified_flow(fresh.sigmas[:-1].flip(0), density)


def path_by_size(
    scheduler: Any, tokens: int, mu: Callable[[int], float], patch: int = 1, density: Density = "uniform"
) -> NoisePath:
    """`sampled_path` of an image of so many tokens, and of latents of any other size.

    mu: the logarithm of the shift for a number of tokens. patch: latents in a token's side. density: as there.
    """

    @cache
    def shifted(count: int) -> NoisePath:
        return sampled_path(scheduler, mu(count), density)

    return replace(shifted(tokens), by_size=lambda height, width: shifted((height // patch) * (width // patch)))


def set_euler(pipeline: Any) -> None:
    """Euler steps, without the noise that the scheduler can add."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    config = pipeline.scheduler.config
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(config, stochastic_sampling=False)


def levels_of(scheduler: Any) -> dict[str, Any]:
    """Of a scheduler's settings, those that say which levels it passes through."""
    names = ("num_train_timesteps", "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len",
             "max_image_seq_len", "shift_terminal", "time_shift_type")  # fmt: skip
    return {name: scheduler.config.get(name) for name in names}


def pack(latents: Tensor, patch: int = 1) -> Tensor:
    """Latents (b, c, h, w) to a token for each patch of p × p, row by row: (b, h·w / p², c·p²)."""
    return pixel_unshuffle(latents, patch).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int, patch: int = 1) -> Tensor:
    """What `pack` did, undone: (b, h·w / p², c·p²) to (b, c, h, w)."""
    patches = tokens.transpose(1, 2).unflatten(2, (height // patch, width // patch))
    return pixel_shuffle(patches, patch)


def grid(*sizes: int, device: Any) -> Tensor:
    """The coordinates of a grid's points, the last running fastest: (product of the n sizes, n) float32."""
    axes = [torch.arange(size, device=device) for size in sizes]
    return torch.cartesian_prod(*axes).float()
