"""DreamSim similarity to the reference photo, by the package `dreamsim`."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lookforward.records import Transition
from lookforward.rewards.packages import import_package, load_weights_of
from lookforward.rewards.pixels import image_and_photo

_SIDE = 224  # px, what the network looks at
Distance = Callable[[Tensor, Tensor], Tensor]


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


def load_dreamsim(device: torch.device | str = "cpu") -> Distance:
    """DreamSim's ensemble, frozen; its weights are kept in torch's download cache.

    Raises LookforwardError where the package is not installed or its weights cannot be loaded.
    """
    package = import_package("dreamsim")
    folder = Path(torch.hub.get_dir()) / "dreamsim"

    def load() -> torch.nn.Module:
        folder.mkdir(parents=True, exist_ok=True)
        return package.dreamsim(pretrained=True, device=str(device), cache_dir=str(folder))[0]

    network = load_weights_of("dreamsim", load).eval().requires_grad_(False)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return network(_resized(x), _resized(y)).reshape(len(x))

    return distance


def _resized(images: Tensor) -> Tensor:
    """(b, 3, H, W) → (b, 3, 224, 224), without regard to the shape, as the package's own preprocessing does."""
    resized = interpolate(images, (_SIDE, _SIDE), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
