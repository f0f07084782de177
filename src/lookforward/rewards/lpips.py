"""Learned perceptual similarity to the reference photo, by the package `lpips`."""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders.perceptual import Distance
from lookforward.rewards.pixels import image_and_photo


class LpipsReward:
    """Minus the LPIPS distance of the image to the reference photo (Zhang et al., 2018), in (-∞, 0], mostly above -1.

    Reads `image` and `photo`; differentiable in the image. 0 where they are equal.
    """

    name = "lpips"
    needs_image = True

    def __init__(self, distance: Distance) -> None:
        """`distance`: `load_lpips(…)`, from two (b, 3, H, W) in [0, 1] to (b,)."""
        self.distance = distance

    def __call__(self, transition: Transition) -> Tensor:
        return -self.distance(*image_and_photo(transition, self.name))  # (b,)
