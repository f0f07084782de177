"""How much each latent of a view counts in the loss: masks weigh the background less, and grey padding not at all."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

from lookforward.data.views import View


def latent_weights(views: Sequence[View], height: int, width: int, background: float) -> Tensor | None:
    """Weight of each latent of each view in the loss: (n, 1, height, width) float32, with mean 1 over each view.

    background: weight in [0, 1] outside a mask; what does not belong to the photo has none. None if all weights are 1.
    """
    if all(view.valid is None and (view.mask is None or background == 1) for view in views):
        return None
    return torch.stack([_weights_of(view, height, width, background) for view in views])


def _weights_of(view: View, height: int, width: int, background: float) -> Tensor:
    weight = torch.ones(1, height, width)
    if view.mask is not None:
        subject = adaptive_avg_pool2d(torch.from_numpy(view.mask / np.float32(255))[None], (height, width))
        weight = 1 - (1 - background) * (1 - subject)  # exactly 1 where all is subject
    if view.valid is None:
        return weight / weight.mean()
    share = adaptive_avg_pool2d(torch.from_numpy(view.valid.astype(np.float32))[None], (height, width))
    whole = (share > 1 - 1e-4).float()
    # One latent in from the edge, since the encoder sees the grey beyond it
    inner = -max_pool2d(-whole, 3, stride=1, padding=1)
    for valid in (inner, whole, share):  # a small image may have no inside
        masked = weight * valid
        if masked.sum() > 0:
            return masked / masked.mean()
    raise ValueError("this view shows nothing of the photo")  # make_views left such views out
