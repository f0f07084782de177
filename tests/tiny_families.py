"""Every model family as a tiny pipeline of its real classes with random weights, by the family's name."""

from collections.abc import Callable
from typing import Any

from conftest import make_pipeline
from tiny_flux import make_flux
from tiny_flux2 import make_dev, make_klein
from tiny_qwen import make_qwen_image, make_z_image
from tiny_sd3 import make_sd3
from tiny_sdxl import make_sdxl

TINY: dict[str, Callable[..., Any]] = {
    "sd": make_pipeline,
    "sdxl": make_sdxl,
    "sd3": make_sd3,
    "flux": make_flux,
    "flux2": make_klein,
    "flux2_dev": make_dev,
    "z_image": make_z_image,
    "qwen_image": make_qwen_image,
}
