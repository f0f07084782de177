"""DINOv2 similarity: Eq. 10 with a later encoder."""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity
from lookforward.rewards.pixels import decoded


class Dinov2Reward:
    """Mean cosine similarity of the image to each reference photo under DINOv2 (Oquab et al., 2023), in [-1, 1].

    Reads `image`; differentiable in it. With it as the reward, the DINO score is from another encoder, though
    still of one family.
    """

    name = "dinov2"
    needs_image = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`encoder`: `load_dinov2(…)`; `references`: photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    def __call__(self, transition: Transition) -> Tensor:
        return self.similarity(decoded(transition, self.name))  # (b,)
