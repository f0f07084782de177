"""What rewards and scores measure alike: likeness to the reference photos, and agreement with the prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders.encoders import ClipEncoders, ImageEncoder

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

    def __call__(self, images: Tensor, prompts: Sequence[str] = ()) -> Tensor:
        """images (b, 3, h, w), float in [0, 1] → (b,). The prompts do not matter."""
        return (_encode(self.encoder, images) @ self.references.T).mean(dim=1)


class PromptSimilarity:
    """Cosine similarity of an image to its own prompt under CLIP's two towers, in [-1, 1].

        r(x, y) = cos(g(x), h(y))

    Differentiable with respect to the images.
    """

    def __init__(self, encoders: ClipEncoders) -> None:
        self.encoders = encoders

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (b, 3, h, w), float in [0, 1]; b prompts → (b,). Raises ValueError for other counts."""
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images need as many prompts, got {len(prompts)}")
        return (_encode(self.encoders.image, images) * self.encoders.text(prompts)).sum(dim=1)


def _encode(encoder: ImageEncoder, images: Tensor) -> Tensor:
    return torch.cat([encoder(part) for part in images.split(_BATCH)])  # (b, d)
