"""DINOv2 score: the DINO score's question, asked of a later encoder (Oquab et al., 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity


class Dinov2Score:
    """Mean cosine similarity of an image to each of the reference photos, under DINOv2.

        DINOv2(x) = 1/k Σ_j cos(f(x), f(r_j))

    f is the class token after the last norm. In [-1, 1], higher is better. Of one family with DINO: beside a reward
    by DINO it is a weaker second opinion than CLIP-I.
    """

    name = "DINOv2"
    higher_is_better = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`references`: the subject's photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,). The prompts do not matter."""
        return self.similarity(images)
