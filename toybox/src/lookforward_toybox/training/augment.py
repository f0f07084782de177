"""Random views of image batches. Colours keep their hue: colour is what captions and subjects are about."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crops(
    images: Tensor, size: int, scale: tuple[float, float], generator: torch.Generator, flip: bool = True
) -> Tensor:
    """Resized crops, (b, 3, h, w) to (b, 3, size, size), mirrored half of the time.

    scale: least and greatest share of the image's area; sides vary by up to 4/3 in proportion.
    """
    count = len(images)
    random = torch.rand(5, count, generator=generator)
    area = scale[0] + (scale[1] - scale[0]) * random[0]
    stretch = torch.exp((random[1] * 2 - 1) * 0.5 * torch.log(torch.tensor(4 / 3)))
    width, height = (area.sqrt() * stretch).clamp(max=1.0), (area.sqrt() / stretch).clamp(max=1.0)
    mirror = torch.where(random[4] < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0], transform[:, 1, 1] = width * mirror, height
    transform[:, 0, 2] = (random[2] * 2 - 1) * (1 - width)
    transform[:, 1, 2] = (random[3] * 2 - 1) * (1 - height)
    grid = F.affine_grid(transform.to(images.device), [count, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness and contrast of each image, (b, 3, h, w) in [-1, 1], by up to `strength`."""
    random = (torch.rand(2, len(images), 1, 1, 1, generator=generator) * 2 - 1).to(images.device) * strength
    return (images * (1 + random[0]) + random[1]).clamp(-1, 1)
