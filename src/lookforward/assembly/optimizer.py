"""The optimizer of the trained weights."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from lookforward.config.settings import Settings
from lookforward.core.sharding import is_sharded
from lookforward.models.packages import require_extra

_FUSED = ("cpu", "cuda", "mps", "xpu")  # devices that PyTorch has a fused AdamW for


def rate_groups(
    settings: Settings, parameters: Mapping[str, nn.Parameter]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What learns at `optimizer.learning_rate`, and the learned words if they have a rate of their own."""
    if not settings.optimizer.word_learning_rate:
        return list(parameters.values()), []
    words = [parameter for name, parameter in parameters.items() if name.startswith("word.")]
    return [parameter for name, parameter in parameters.items() if not name.startswith("word.")], words


def build_optimizer(
    settings: Settings, parameters: Iterable[nn.Parameter], words: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """AdamW, with its two moments in single precision or in 8 bits (Dettmers et al., 2022).

    PyTorch's fused kernel reads and writes each weight once, where its loop over tensors does so eight times; the last
    bits differ. `run.plain` takes the loop.

    words: what learns at `optimizer.word_learning_rate`.

    Of weights with fewer than 4,096 numbers bitsandbytes keeps the moments in single precision.

    Raises:
        LookforwardError: bitsandbytes is not installed.
    """
    chosen = settings.optimizer
    groups: list[Any] = list(parameters)
    kind: Any = torch.optim.AdamW
    if chosen.eight_bit:
        kind = require_extra("bitsandbytes", "optimizer.eight_bit").optim.AdamW8bit
    elif not settings.run.plain and all(one.device.type in _FUSED and not is_sharded(one) for one in groups):
        kind = partial(torch.optim.AdamW, fused=True)
    if words := list(words):
        groups = [{"params": groups}, {"params": words, "lr": chosen.word_learning_rate}]
    return kind(
        groups,
        lr=chosen.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        weight_decay=chosen.weight_decay,
    )
