"""DINO score: is it this very subject? (Ruiz et al., DreamBooth, 2023, section 4.1)"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.vision import ImageEncoder

_BATCH = 32  # images encoded at a time


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
        self.encoder = encoder
        with torch.no_grad():
            self.references = encoder(references)  # (k, d)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1] → (n,). The prompts do not matter."""
        embeddings = torch.cat([self.encoder(part) for part in images.split(_BATCH)])  # (n, d)
        return (embeddings @ self.references.T).mean(dim=1)
