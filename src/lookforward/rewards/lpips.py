"""Learned perceptual similarity to the reference photo, by the package `lpips`."""

from collections.abc import Callable

import torch
from torch import Tensor

from lookforward.records import Transition
from lookforward.rewards.packages import import_package, load_weights_of
from lookforward.rewards.pixels import image_and_photo

Distance = Callable[[Tensor, Tensor], Tensor]


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


def load_lpips(device: torch.device | str = "cpu") -> Distance:
    """LPIPS with AlexNet and the authors' calibration, version 0.1, frozen.

    Raises LookforwardError where the package is not installed or its weights cannot be loaded.
    """
    package = import_package("lpips")
    network = load_weights_of("lpips", lambda: package.LPIPS(net="alex", verbose=False))
    network = network.to(device).eval().requires_grad_(False)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return network(x, y, normalize=True).reshape(len(x))  # from (b, 1, 1, 1); normalize: from [0, 1]

    return distance
