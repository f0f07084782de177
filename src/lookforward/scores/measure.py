"""A score that is what some function measures of images and prompts: the body that most scores share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class MeasureScore:
    """`measure(images, prompts)` of some images at a time, higher is better, without a gradient.

    Args:
        name: as tables show it.
        measure: from images (n, 3, h, w) in [0, 1] and n prompts to (n,).
        batch: images at a time; 0: all of them.
    """

    def __init__(self, name: str, measure: Callable[[Tensor, Sequence[str]], Tensor], batch: int = 0) -> None:
        self.name, self.measure, self.batch = name, measure, batch

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1]; n prompts → one score per image (n,)."""
        import torch

        if not self.batch or len(images) <= self.batch:  # the tensor itself, which `encoding_once` knows again
            with torch.no_grad():
                return self.measure(images, prompts)
        size = self.batch
        with torch.no_grad():
            parts = [self.measure(images[i : i + size], prompts[i : i + size]) for i in range(0, len(images), size)]
        return torch.cat(parts)
