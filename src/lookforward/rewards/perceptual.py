"""Minus a perceptual distance of the image to its reference photo: 0 where they are equal.

Both read `image` and `photo` and are differentiable in the image. DreamSim's distance is 1 - cos of embeddings by DINO,
CLIP and OpenCLIP, tuned on what people find alike.
"""

from lookforward.core.specs import Resources, RewardSpec
from lookforward.rewards.image import PhotoReward


def _build(name: str, given: Resources) -> PhotoReward:
    distance = getattr(given.encoders, name)
    return PhotoReward(name, lambda image, photo: -distance(image, photo))


_LOOKS_AT = "image and its reference photo; `pip install {0}`"
LPIPS = RewardSpec(
    "lpips",
    "LPIPS",
    _LOOKS_AT.format("lpips"),
    _build,
    "(−∞, 0], mostly above −1",
    "Zhang et al., 2018",
    encoder="lpips",
    package="lpips",
)
DREAMSIM = RewardSpec(
    "dreamsim",
    "DreamSim",
    _LOOKS_AT.format("dreamsim"),
    _build,
    "[−2, 0]",
    "Fu et al., 2023",
    encoder="dreamsim",
    package="dreamsim",
)
