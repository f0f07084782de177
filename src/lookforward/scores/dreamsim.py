"""DreamSim score: likeness to the subject's photos as people see it (Fu, Tamir, Sundaram et al., 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders.perceptual import Distance
from lookforward.models.encoders.preprocessing import Preprocessing, resize_and_crop

_BATCH = 32  # pairs at a time
_INPUT = Preprocessing(224, 224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), squash=True)  # as the package's own


class DreamsimScore:
    """Mean DreamSim similarity of an image to each of the reference photos.

        DreamSim(x) = 1/k Σ_j (1 - d(x, r_j))

    d is 1 - cos of embeddings by DINO, CLIP and OpenCLIP, tuned on what people find alike. In [-1, 1], higher is
    better. Scene and pose count too.
    """

    name = "DreamSim"
    higher_is_better = True

    def __init__(self, distance: Distance, references: Tensor) -> None:
        """`distance`: `load_dreamsim(…)`; `references`: the subject's photos (k, 3, h, w), float in [0, 1]."""
        self.distance = distance
        self.references = resize_and_crop(references, _INPUT)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,). The prompts do not matter."""
        small, k = resize_and_crop(images, _INPUT), len(self.references)
        pairs = torch.cartesian_prod(torch.arange(len(small)), torch.arange(k)).reshape(-1, 2)  # (n k, 2)
        parts = [self.distance(small[part[:, 0]], self.references[part[:, 1]]).cpu() for part in pairs.split(_BATCH)]
        return 1 - torch.cat(parts).reshape(-1, k).mean(dim=1)
