"""DINO similarity, Eq. 10: is it this very subject?"""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity
from lookforward.rewards.pixels import decoded


class DinoReward:
    """Mean cosine similarity of the image to each reference photo under DINO (Caron et al., 2021), in [-1, 1].

    Reads `image`; differentiable in it. Eq. 10 is κ̂·κ - 1 for one reference photo; here the mean over all, so
    that the background of one counts less, and without the constant, which no gradient of the policy sees.
    """

    name = "dino"
    needs_image = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`encoder`: `load_dino(…)`; `references`: photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    def __call__(self, transition: Transition) -> Tensor:
        return self.similarity(decoded(transition, self.name))  # (b,), Eq. 10
