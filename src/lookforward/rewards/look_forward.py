"""Look Forward, Eq. 8: how near the predicted end of the path is to the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookforward.core.specs import RewardSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lookforward.core.types import Transition


class LookForwardReward:
    """-mean (x̂_0,t - x_0)², in (-∞, 0] (Eq. 8 with a reward's sign).

    In the model's own error: -(σ/a)² · mean (o - target)² for epsilon, with σ² as weight for v_prediction and flow.

    Reads `x_0`, `x_0_hat` and `mask`. Squared latent units, the mean over c, h and w.
    """

    name = "look-forward"
    needs_image = False

    def __call__(self, transition: Transition) -> Tensor:
        return -transition.masked((transition.x_0_hat - transition.x_0) ** 2).mean(dim=(1, 2, 3))  # (b,)


LOOK_FORWARD = RewardSpec(
    "look-forward",
    "Look Forward",
    "latents: −mean (x̂_0 − x_0)²",
    lambda *_: LookForwardReward(),
    "(−∞, 0]",
    "Eq. 8",
    needs_image=False,
)
