"""Weights that are updated while the backward pass still runs, so that only one gradient is in memory at a time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lookforward.algorithm.environment import require_finite

_REMEDY = "lower learning_rate, or set optimizer.fused to false, which clips all gradients together"


@contextmanager
def updating_in_backward(
    optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], max_norm: float
) -> Iterator[list[Tensor]]:
    """Within it, `backward` updates each parameter as soon as its gradient is complete, and frees the gradient.

    The norm of all gradients together is not known before the last of them, when the first are gone. So each is
    clipped by itself, to `max_norm`. One `backward` is one step: gradients of several cannot be summed.

    Yields:
        a list that fills with the norm of each gradient before clipping; their norm is that of all gradients.

    Raises:
        LookforwardError: from `backward`, a gradient is not finite; parameters that came before are updated already.
    """
    norms: list[Tensor] = []

    def update(parameter: Tensor) -> None:
        norm = torch.nn.utils.clip_grad_norm_(parameter, max_norm)
        require_finite(norm, "gradient", _REMEDY)
        optimizer.step()  # of all parameters only this one has a gradient
        parameter.grad = None
        norms.append(norm)

    hooks = [parameter.register_post_accumulate_grad_hook(update) for parameter in parameters]
    try:
        yield norms
    finally:
        for hook in hooks:
            hook.remove()
