"""The optimizer of the trained weights."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lookforward.config.settings import Settings
from lookforward.models.packages import require_extra


def build_optimizer(settings: Settings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, with its two moments in single precision or in 8 bits (Dettmers et al., 2022).

    Of weights with fewer than 4,096 numbers bitsandbytes keeps the moments in single precision.

    Raises:
        LookforwardError: bitsandbytes is not installed.
    """
    chosen = settings.optimizer
    kind: Any = torch.optim.AdamW
    if chosen.eight_bit:
        kind = require_extra("bitsandbytes", "optimizer.eight_bit").optim.AdamW8bit
    return kind(
        list(parameters),
        lr=chosen.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        weight_decay=chosen.weight_decay,
    )
