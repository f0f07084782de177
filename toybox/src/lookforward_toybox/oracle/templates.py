"""The oracle's templates: a subject's drawing, scaled, turned, flipped and shifted onto a pixel grid."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SAMPLES = 2  # per pixel and axis; their mean is the pixel
_MASK_POWER = 4
_SOURCE_SIDE = 256  # px; larger drawings are reduced to it by area first


@dataclass(frozen=True)
class Subject:
    """A drawing cut to its subject: (4, s, s), colours premultiplied by alpha, the box centred."""

    premultiplied: Tensor
    longer_side: float
    """Of the subject's box, as a fraction of s."""


def cut_out(drawing: Tensor) -> Subject:
    """(4, h, w) RGBA, float in [0, 1], straight alpha → its subject on a square around its box.

    The box holds every pixel of more than 10 % alpha. Raises ValueError where there is none.
    """
    if drawing.ndim != 3 or drawing.shape[0] != 4:
        raise ValueError(f"a drawing is RGBA, (4, s, s), this one is {tuple(drawing.shape)}")
    rows, columns = torch.nonzero(drawing[3] > 0.1, as_tuple=True)
    if len(rows) == 0:
        raise ValueError("the drawing is transparent everywhere: draw the subject with its alpha mask")
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    box = drawing[:, top:bottom, left:right]
    longer = max(box.shape[-2:])
    side = longer + 2  # a transparent pixel all around
    y, x = (side - box.shape[1]) / 2, (side - box.shape[2]) / 2
    pad = (math.floor(x), math.ceil(x), math.floor(y), math.ceil(y))
    premultiplied = F.pad(torch.cat([box[:3] * box[3:], box[3:]]), pad)
    if side > _SOURCE_SIDE:
        premultiplied = F.interpolate(premultiplied[None], (_SOURCE_SIDE, _SOURCE_SIDE), mode="area")[0]
    return Subject(premultiplied, longer / side)


def draw_templates(subject: Subject, poses: Tensor, shifts: Tensor, side: int) -> Tensor:
    """The subject in many poses, at the resolution of an image of `side` pixels.

    `poses` (n, t, 3): longer side of the subject's box / `side`, degrees counter-clockwise, flipped
    (0 or 1, before the turn). `shifts` (n, t, 2), or that broadcasts: pixels down and right, below 1.
    Returns (n, t, 4, k, k), k odd, the box centred on the middle pixel: straight colours, then the mask.
    """
    n, t, _ = poses.shape
    scale, degrees, flipped = poses.unbind(-1)
    box = scale * side  # px
    half = math.ceil(float(box.max()) * _reach(degrees) / 2) + 1
    k = 2 * half + 1

    # Offsets of the k·samples points of each axis from the middle pixel's centre, in px.
    points = (torch.arange(k * _SAMPLES).to(poses) + 0.5) / _SAMPLES - k / 2
    v = points[None, None, :, None] - shifts[..., 0, None, None]  # down
    u = points[None, None, None, :] - shifts[..., 1, None, None]  # right
    angle = torch.deg2rad(degrees)[..., None, None]
    x = u * angle.cos() - v * angle.sin()  # turned back
    y = u * angle.sin() + v * angle.cos()
    x = torch.where(flipped[..., None, None] > 0.5, -x, x)
    unit = (2 * subject.longer_side / box)[..., None, None]  # px → grid_sample's [-1, 1]
    grid = torch.stack([(x * unit).expand(n, t, *x.shape[-2:]), (y * unit).expand(n, t, *y.shape[-2:])], -1)

    source = _reduced(subject.premultiplied, _SAMPLES * float(box.max()) / subject.longer_side)
    source = source[None].expand(n * t, -1, -1, -1)
    drawn = F.grid_sample(source, grid.flatten(0, 1), mode="bilinear", align_corners=False)
    drawn = F.avg_pool2d(drawn, _SAMPLES).unflatten(0, (n, t))
    colours = drawn[:, :, :3] / drawn[:, :, 3:].clamp(min=1e-6)
    # Where the background shines through, at the outline, it is no evidence about the subject.
    mask = drawn[:, :, 3:] ** _MASK_POWER
    return torch.cat([colours.clamp(0, 1), mask], dim=2)


def _reach(degrees: Tensor) -> float:
    """How much longer the upright box around a square becomes when the square turns."""
    angle = torch.deg2rad(degrees)
    return float((angle.cos().abs() + angle.sin().abs()).max())


def _reduced(source: Tensor, longest: float) -> Tensor:
    """By area to at most `longest` pixels a side, so that two samples a pixel miss nothing."""
    side = math.ceil(longest)
    if source.shape[-1] <= side:
        return source
    return F.interpolate(source[None], (side, side), mode="area")[0]
