"""The critic of the authors' released code: it sees the squared residual (x_0 - x̂_0)², nothing else.

Kept as they built it (DESIGN: conv 3×3 4→1, LeakyReLU, linear h·w→64, ReLU, linear 64→1, weights uniform in
[0, 1/fan-in]), with two differences. It predicts a return, so the network's output, which grows with the
error, is negated; and it computes in single precision. It has 262,310 parameters at 64×64 latents.
"""

import torch
from torch import Tensor, nn

from lookforward.records import Transition


class ResidualCritic(nn.Module):
    """Q_φ((x_0 - x̂_0)²).

    Args:
        channels, height, width: shape of the latents.
        generator: source of the initial weights, uniform in [0, 1/fan-in]; biases start at nought.
    """

    def __init__(self, channels: int, height: int, width: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(channels, 1, kernel_size=3, padding=1),
            nn.LeakyReLU(),
            nn.Flatten(),
            nn.Linear(height * width, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )
        for layer in self.network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                nn.init.uniform_(layer.weight, 0.0, 1.0 / fan_in, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, transition: Transition) -> Tensor:
        """(b,) predicted return, differentiable with respect to the action through x̂_0 (Eq. 7)."""
        residual = (transition.x_0 - transition.x_0_hat) ** 2  # (b, c, h, w)
        return -self.network(residual.float())[:, 0]  # (b,)
