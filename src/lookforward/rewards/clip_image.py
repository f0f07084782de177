"""CLIP image similarity: does it look like the subject?"""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders import ImageEncoder
from lookforward.models.encoders.similarity import Similarity
from lookforward.rewards.pixels import decoded


class ClipImageReward:
    """Mean cosine similarity of the image to each reference photo under CLIP's image tower, in [-1, 1].

    Reads `image`; differentiable in it. CLIP: Radford et al., 2021; as a measure of likeness (CLIP-I): Gal et al.,
    Textual Inversion, 2022. It largely sees the class and the scene, where DINO sees the subject.
    """

    name = "clip-image"
    needs_image = True

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`encoder`: `load_clip(…).image`; `references`: photos (k, 3, h, w), float in [0, 1]."""
        self.similarity = Similarity(encoder, references)

    def __call__(self, transition: Transition) -> Tensor:
        return self.similarity(decoded(transition, self.name))  # (b,)
