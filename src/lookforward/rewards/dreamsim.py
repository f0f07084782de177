"""DreamSim similarity to the reference photo, by the package `dreamsim`."""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders.perceptual import Distance
from lookforward.rewards.pixels import image_and_photo


class DreamsimReward:
    """Minus the DreamSim distance of the image to the reference photo (Fu, Tamir, Sundaram et al., 2023), in [-2, 0].

    Reads `image` and `photo`; differentiable in the image. 0 where they are equal. The distance is 1 - cos of
    embeddings by DINO, CLIP and OpenCLIP, tuned on what people find alike.
    """

    name = "dreamsim"
    needs_image = True

    def __init__(self, distance: Distance) -> None:
        """`distance`: `load_dreamsim(…)`, from two (b, 3, H, W) in [0, 1] to (b,)."""
        self.distance = distance

    def __call__(self, transition: Transition) -> Tensor:
        return -self.distance(*image_and_photo(transition, self.name))  # (b,)
