"""Similarity under an encoder of one's own: faces, or whatever a model was trained to tell apart."""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity
from lookforward.rewards.pixels import decoded


class EmbeddingReward:
    """Mean cosine similarity of the image to each reference photo under any encoder, in [-1, 1].

    Reads `image`; differentiable in it. Eq. 10 with the encoder as an argument.
    """

    needs_image = True

    def __init__(self, encoder: ImageEncoder, references: Tensor, name: str) -> None:
        """`encoder`: `load_embedding(…)`; `references`: photos (k, 3, h, w), float in [0, 1]; `name`: as logged."""
        self.name = name
        self.similarity = Similarity(encoder, references)

    def __call__(self, transition: Transition) -> Tensor:
        return self.similarity(decoded(transition, self.name))  # (b,)
