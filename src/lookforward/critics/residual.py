"""The critic of the authors' released code: it sees the squared residual (x_0 - x̂_0)², nothing else.

Kept as they built it (convolution 3×3 4→1, LeakyReLU, linear h·w→64, ReLU, linear 64→1, first weights and
biases uniform in [0, 1/n]), with two differences. It predicts a return, so the network's output, which grows with
the error, is negated; and it computes in single precision. It has 262,310 parameters at 64×64 latents.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from lookforward.core.types import Transition


class ResidualCritic(nn.Module):
    """Q_φ((x_0 - x̂_0)²).

    Args:
        channels, height, width: shape of the latents; the residual of others is averaged to height × width places.
        generator: source of the first weights and biases, uniform in [0, 1/n]: n is the fan-in of a linear
            layer and the nine places of the kernel for the convolution, whatever its channels.
    """

    def __init__(self, channels: int, height: int, width: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.size = (height, width)
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
                n = 9 if isinstance(layer, nn.Conv2d) else layer.in_features
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, 0.0, 1.0 / n, generator=generator)

    def forward(self, transition: Transition) -> Tensor:
        """(b,) predicted return, differentiable with respect to the action through x̂_0 (Eq. 7)."""
        residual = transition.masked((transition.x_0 - transition.x_0_hat) ** 2)  # (b, c, h, w)
        if residual.shape[-2:] != self.size:  # photos in buckets
            residual = adaptive_avg_pool2d(residual, self.size)
        return -self.network(residual.float())[:, 0]  # (b,)
