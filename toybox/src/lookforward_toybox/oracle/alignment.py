"""The oracle's search: a subject's own drawing laid over an image at every position, scale, rotation and flip.

The masked error at the best one is the answer. No network was trained on it, and none can be fooled by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lookforward_toybox.oracle.masked_error import errors_everywhere, errors_nearby
from lookforward_toybox.oracle.templates import cut_out, draw_templates

SCALES = (0.5, 0.57, 0.65, 0.74, 0.84, 0.95)  # subject's longer side as a fraction of the image's shorter
ROTATIONS = (-18.0, -12.0, -6.0, 0.0, 6.0, 12.0, 18.0)  # degrees, counter-clockwise
_BATCH = 16  # images at a time
_COARSE_SIDE = 64  # px; the first search is done at this resolution


@dataclass(frozen=True)
class Alignment:
    """Where the drawing fits best; every field has one value per image (n,)."""

    error: Tensor
    """Mean squared error over the mask's pixels and colours, after the gain; in [0, 1]."""
    scale: Tensor
    """Longer side of the subject's box as a fraction of the image's shorter side."""
    rotation: Tensor
    """Degrees counter-clockwise; applied after the flip."""
    flip: Tensor
    """Mirrored left to right."""
    y: Tensor
    """Centre of the subject's box, in pixels from the image's top edge (first pixel's centre: 0.5)."""
    x: Tensor
    """The same from the left edge."""


class OracleScore:
    """1 − √(least masked error) over all alignments of the subject's drawing; 1 is identical.

    The masked error is that of `masked_error.py`, after the best gain of light. All positions, and a grid
    of scales, rotations and flips, are searched at 64 pixels; then a grid of a third of the spacing and
    half a pixel around the best, at the image's own resolution. Even an unrelated picture scores well
    above 0, since some part of it has about the right colour: compare scores, do not read them alone.
    """

    name = "oracle"

    def __init__(
        self, drawing: Tensor, scales: Sequence[float] = SCALES, rotations: Sequence[float] = ROTATIONS
    ) -> None:
        """`drawing`: the subject alone, canonical pose, (4, s, s) RGBA, float in [0, 1], straight alpha.

        `scales`: longer side of its alpha's box / shorter side of the image, rising, within (0, 1.2].
        `rotations`: degrees, evenly spaced. Raises ValueError for a drawing that is empty or mis-shaped.
        """
        if not all(0 < scale <= 1.2 for scale in scales):
            raise ValueError(f"scales are fractions of the image's side, within (0, 1.2], got {tuple(scales)}")
        self.subject = cut_out(drawing)
        self.poses = torch.tensor(  # (t, 3): scale, rotation, flip
            [(s, r, f) for s in scales for f in (0.0, 1.0) for r in rotations], device=drawing.device
        )
        ratio = (max(scales) / min(scales)) ** (1 / max(1, len(scales) - 1))
        spacing = (max(rotations) - min(rotations)) / max(1, len(rotations) - 1)
        self.nearby = torch.tensor(  # (36, 4): factor on the scale, added rotation, sub-pixel shift
            [
                (ratio**a, spacing * b, dy, dx)
                for a in (-1 / 3, 0, 1 / 3)
                for b in (-1 / 3, 0, 1 / 3)
                for dy in (0.0, 0.5)
                for dx in (0.0, 0.5)
            ],
            device=drawing.device,
        )

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,), at most 1. The prompts do not matter."""
        return 1 - self.align(images).error.sqrt()

    @torch.no_grad()
    def align(self, images: Tensor) -> Alignment:
        """images (n, 3, h, w), float in [0, 1] → the best alignment of each."""
        parts = [self._align(part.to(self.poses)) for part in images.split(_BATCH)]
        error, pose, y, x = (torch.cat(column) for column in zip(*parts, strict=True))
        return Alignment(error, pose[:, 0], pose[:, 1], pose[:, 2] > 0.5, y, x)

    def _align(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        side = min(images.shape[-2:])
        small = _at_most(images, _COARSE_SIDE)
        ratio = side / min(small.shape[-2:])
        still = torch.zeros(1, 1, 2).to(images)
        templates = draw_templates(self.subject, self.poses[None], still, min(small.shape[-2:]))
        _, best, y, x = _least(errors_everywhere(small, templates))
        y, x = ((y + 0.5) * ratio).long(), ((x + 0.5) * ratio).long()

        poses = self.poses[best][:, None].repeat(1, len(self.nearby), 1)  # (n, 36, 3)
        poses[..., 0] *= self.nearby[:, 0]
        poses[..., 1] += self.nearby[:, 1]
        shifts = self.nearby[None, :, 2:].expand(len(images), -1, -1)
        templates = draw_templates(self.subject, poses, shifts, side)  # (n, 36, 4, k, k)
        radius = math.ceil(ratio) + 1
        error, best, dy, dx = _least(errors_nearby(images, templates, y, x, radius))
        shift = self.nearby[best, 2:] + 0.5
        pose = poses[torch.arange(len(images), device=best.device), best]
        return error, pose, y + dy - radius + shift[:, 0], x + dx - radius + shift[:, 1]


def _at_most(images: Tensor, side: int) -> Tensor:
    """Reduced, by area, to a shorter side of `side` px where it is longer."""
    shorter = min(images.shape[-2:])
    if shorter <= side:
        return images
    size = [round(length * side / shorter) for length in images.shape[-2:]]
    return F.interpolate(images, size, mode="area")


def _least(errors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(n, t, h, w) → least error, its template, its y and its x, each (n,)."""
    _, t, h, w = errors.shape
    error, index = errors.flatten(1).min(dim=1)
    template, y, x = torch.unravel_index(index, (t, h, w))
    return error, template, y, x
