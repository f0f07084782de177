"""Reconstruction, Eq. 5: the objective of DreamBooth, as a reward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookforward.core.specs import RewardSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lookforward.core.types import Transition


class NoiseReward:
    """-mean (o - target)², in (-∞, 0] (Eq. 5 with the sign of a reward): of noise, or of what else the model predicts.

    Reads `action`, `target` and `mask`; the mean over c, h and w.
    """

    name = "noise"
    needs_image = False

    def __call__(self, transition: Transition) -> Tensor:
        return -transition.masked((transition.action - transition.target) ** 2).mean(dim=(1, 2, 3))  # (b,)


NOISE = RewardSpec(
    "noise",
    "noise reconstruction",
    "latents: −mean (ẑ_t − z_t)²",
    lambda *_: NoiseReward(),
    "(−∞, 0]",
    "Eq. 5",
    needs_image=False,
)
