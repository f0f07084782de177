"""DINO score: is it this very subject? (Ruiz et al., DreamBooth, 2023, section 4.1)"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity


class DinoScore:
    """Mean cosine similarity of an image to each of the reference photos, under DINO.

        DINO(x) = 1/k Σ_j cos(f(x), f(r_j))

    f is the class token. DINO was trained to tell images apart without labels, so that it separates
    subjects of one class, where CLIP-I largely sees the class. In [-1, 1], higher is better.
    """

    name = "DINO"
    higher_is_better = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`references`: the subject's photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,). The prompts do not matter."""
        return self.similarity(images)
