"""DreamSim score: likeness to the subject's photos as people see it (Fu, Tamir, Sundaram et al., 2023)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lookforward.core.specs import ScoreSpec
from lookforward.scores.measure import MeasureScore

if TYPE_CHECKING:
    from torch import Tensor

    from lookforward.models.encoders.perceptual import Distance

_BATCH = 32  # pairs at a time


def dreamsim(distance: Distance, references: Tensor, images: Tensor, _: object = ()) -> Tensor:
    """Mean DreamSim similarity of an image to each of the reference photos.

        DreamSim(x) = 1/k Σ_j (1 - d(x, r_j))

    d is 1 - cos of embeddings by DINO, CLIP and OpenCLIP, tuned on what people find alike. In [-1, 1], higher is
    better. Scene and pose count too.

    references (k, 3, h, w), images (n, 3, h, w), both float in [0, 1] → (n,).
    """
    import torch

    from lookforward.models.encoders.preprocessing import Preprocessing, resize_and_crop

    how = Preprocessing(224, 224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), squash=True)  # as the package's own
    small, photos = resize_and_crop(images, how), resize_and_crop(references, how)
    pairs = torch.cartesian_prod(torch.arange(len(small)), torch.arange(len(photos))).reshape(-1, 2)  # (n k, 2)
    parts = [distance(small[part[:, 0]], photos[part[:, 1]]).cpu() for part in pairs.split(_BATCH)]
    return 1 - torch.cat(parts).reshape(-1, len(photos)).mean(dim=1)


DREAMSIM = ScoreSpec(
    "dreamsim",
    "DreamSim",
    "Does it look like the photos to people?",
    lambda given: MeasureScore("DreamSim", partial(dreamsim, given.encoders.dreamsim, given.photos)),
    on_request=True,
    encoder="dreamsim",
    package="dreamsim",
    rewards=("dreamsim",),
)
