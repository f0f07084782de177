"""How far apart two images are to people, by packages that are not installed with lookforward: LPIPS and DreamSim."""

import importlib
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lookforward.errors import LookforwardError, first_line

_DREAMSIM_SIDE = 224  # px, what the network looks at
T = TypeVar("T")

Distance = Callable[[Tensor, Tensor], Tensor]
"""From two (b, 3, H, W), float in [0, 1], to (b,): 0 where they are equal. Differentiable."""


def load_lpips(device: torch.device | str = "cpu") -> Distance:
    """LPIPS (Zhang et al., 2018) with AlexNet and the authors' calibration, version 0.1, frozen.

    Raises LookforwardError where the package is not installed or its weights cannot be loaded.
    """
    package = require_package("lpips")
    network = _load_weights("lpips", lambda: package.LPIPS(net="alex", verbose=False))
    network = network.to(device).eval().requires_grad_(False)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return network(x.to(device), y.to(device), normalize=True).reshape(
            len(x)
        )  # from (b, 1, 1, 1); normalize: from [0, 1]

    return distance


def load_dreamsim(device: torch.device | str = "cpu") -> Distance:
    """DreamSim's ensemble (Fu, Tamir, Sundaram et al., 2023), frozen; its weights are kept in torch's download cache.

    Raises LookforwardError where the package is not installed or its weights cannot be loaded.
    """
    package = require_package("dreamsim")
    folder = Path(torch.hub.get_dir()) / "dreamsim"

    def load() -> torch.nn.Module:
        folder.mkdir(parents=True, exist_ok=True)
        return package.dreamsim(pretrained=True, device=str(device), cache_dir=str(folder))[0]

    network = _load_weights("dreamsim", load).eval().requires_grad_(False)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return network(_resized(x.to(device)), _resized(y.to(device))).reshape(len(x))

    return distance


def require_package(name: str) -> ModuleType:
    """The module of the package `name`. Raises LookforwardError, with the pip command, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        reason = "is not installed" if absent else f"cannot be imported ({error})"
        title = {"lpips": "LPIPS", "dreamsim": "DreamSim"}.get(name, name)
        raise LookforwardError(
            f"{title} needs the package {name}, which {reason}. Run `pip install {name}`.", code="package-missing"
        ) from error


def _load_weights(name: str, load: Callable[[], T]) -> T:
    """`load()`, whose chatter is dropped, and whose failure to fetch or read the weights is explained."""
    try:
        with redirect_stdout(StringIO()):
            return load()
    except Exception as error:
        reason = first_line(error)
        raise LookforwardError(
            f"The weights of {name} cannot be loaded: {reason}. The package downloads them once, on its first use: "
            "connect to a network, or do without it.",
            code="encoder-unreadable",
        ) from error


def _resized(images: Tensor) -> Tensor:
    """(b, 3, H, W) → (b, 3, 224, 224), without regard to the shape, as the package's own preprocessing does."""
    size = (_DREAMSIM_SIDE, _DREAMSIM_SIDE)
    return interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
