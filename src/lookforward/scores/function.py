"""A score of one's own: any Python function of images and prompts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_BATCH = 16


class FunctionScore:
    """What a function says of each image, in (-∞, ∞), higher is better.

    Of the very function that a method was rewarded by it is that method's own goal, and marked as such.
    """

    higher_is_better = True

    def __init__(self, name: str, ask: Callable[[Tensor, Sequence[str]], Tensor]) -> None:
        """ask: images (n, 3, h, w) in [0, 1] and n prompts to one finite number for each, (n,)."""
        self.name, self.ask = name, ask

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1]; n prompts → (n,). Some at a time, for there may be a network in it."""
        starts = range(0, len(images), _BATCH)
        return torch.cat([self.ask(images[i : i + _BATCH], prompts[i : i + _BATCH]) for i in starts])
