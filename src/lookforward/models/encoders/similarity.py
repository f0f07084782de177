"""Likeness to the reference photos under an encoder: what rewards and scores of one encoder each share."""

import torch
from torch import Tensor

from lookforward.models.encoders.encoders import ImageEncoder

_BATCH = 32  # images encoded at a time


class Similarity:
    """Mean cosine similarity of an image to each of the reference photos, in [-1, 1].

        r(x) = 1/k Σ_j cos(f(x), f(r_j))

    Differentiable with respect to the images; the encoder and the references stay as they are.
    """

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`references`: the subject's photos (k, 3, h, w), float in [0, 1], k at least 1, else ValueError."""
        if len(references) == 0:
            raise ValueError("likeness needs at least one reference photo, got none")
        self.encoder = encoder
        with torch.no_grad():
            self.references = encoder(references)  # (k, d)

    def __call__(self, images: Tensor) -> Tensor:
        """images (b, 3, h, w), float in [0, 1] → (b,)."""
        embeddings = torch.cat([self.encoder(part) for part in images.split(_BATCH)])  # (b, d)
        return (embeddings @ self.references.T).mean(dim=1)
