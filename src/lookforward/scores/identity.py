"""Identity score: a second opinion on whom an image shows, by an encoder that no reward ever uses."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity


class IdentityScore:
    """Mean cosine similarity of an image to each of the reference photos, under a network kept for evaluation.

        identity(x) = 1/k Σ_j cos(f(x), f(r_j))

    A method that was trained for the DINO score may have learned what DINO likes rather than the subject. f shares
    neither weights nor architecture with it. In [-1, 1], higher is better.
    """

    name = "identity"
    higher_is_better = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`references`: the subject's photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,). The prompts do not matter."""
        return self.similarity(images)
