"""CLIP-T score: does the image show what the prompt says? (Radford et al., 2021)"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lookforward.models.encoders import ClipEncoders

_BATCH = 32  # images encoded at a time


class ClipTextScore:
    """Cosine similarity of an image to its own prompt, under CLIP's two towers.

        CLIP-T(x, y) = cos(g(x), h(y))

    In [-1, 1], higher is better. CLIP never saw the identifier: give the prompts without it
    ("a photo of a dog on the beach").
    """

    name = "CLIP-T"
    higher_is_better = True

    def __init__(self, encoders: ClipEncoders) -> None:
        self.encoders = encoders

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1]; n prompts → (n,). Raises ValueError for other counts."""
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images need as many prompts, got {len(prompts)}")
        pictures = torch.cat([self.encoders.image(part) for part in images.split(_BATCH)])  # (n, d)
        texts = self.encoders.text(prompts)  # (n, d)
        return (pictures * texts).sum(dim=1)
