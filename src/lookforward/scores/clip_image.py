"""CLIP-I score: does it look like the subject? (Gal et al., Textual Inversion, 2022)"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity


class ClipImageScore:
    """Mean cosine similarity of an image to each of the reference photos, under CLIP's image tower.

        CLIP-I(x) = 1/k Σ_j cos(g(x), g(r_j))

    In [-1, 1], higher is better. It also rises where the scene of the references is copied: read it
    beside CLIP-T.
    """

    name = "CLIP-I"
    higher_is_better = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`encoder`: `load_clip(…).image`; `references`: photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,). The prompts do not matter."""
        return self.similarity(images)
