"""The critic of the paper: it sees the state (x_t, t, prompt) and the action, and nothing of the reference.

The paper gives its size, about 0.26M parameters, and its input; the network is ours. Convolutions of stride 2 bring
latents of any size to one vector. Timestep and prompt modulate every level (FiLM: Perez et al., 2018), since an
action means one thing at t = 20 and another at t = 900.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookforward.core.types import Transition

Widths = tuple[int, ...]


class StateActionCritic(nn.Module):
    """Q_φ(s_t, o).

    Args:
        channels: of the latents. conditioning: width d of an encoded token.
        widths: channels of each level; each halves height and width.
        generator: source of the first weights.
    """

    def __init__(
        self, channels: int, conditioning: int, *, widths: Widths = (32, 64, 96), generator: torch.Generator
    ) -> None:
        super().__init__()
        condition = 64
        self.timestep = nn.Sequential(nn.Linear(condition, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.prompt = nn.Linear(conditioning, condition)
        self.first = nn.Conv2d(3 * channels, widths[0], 3, padding=1)
        pairs = list(zip(widths, widths[1:] + widths[-1:], strict=True))
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.films = nn.ModuleList(nn.Linear(condition, 2 * b) for _, b in pairs)
        answer = nn.Linear(64, 1)
        self.last = nn.Sequential(nn.Linear(widths[-1], 64), nn.SiLU(), answer)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
            else:
                nn.init.zeros_(parameter)
        nn.init.zeros_(answer.weight)  # it starts at the mean return, and gives no direction yet

    def forward(self, transition: Transition) -> Tensor:
        """(b,), differentiable with respect to the action, and to nothing else: a state is given, not chosen."""
        state = transition.state
        # x̂_0 is a function of state and action alone (Eq. 7); bounded, as it is noise itself at large t
        x_0_hat = torch.tanh(transition.x_0_hat / 3)
        h = self.first(torch.cat([state.x_t, transition.action, x_0_hat], dim=1).float())
        prompt = state.conditioning.detach().mean_token()  # (b, d); a trained text encoder is no action
        condition = self.timestep(_waves(state.timestep, 64)) + self.prompt(prompt)
        for level, film in zip(self.levels, self.films, strict=True):
            scale, shift = film(F.silu(condition))[..., None, None].chunk(2, dim=1)
            h = F.silu(level(h) * (1 + scale) + shift)
        return self.last(h.mean(dim=(2, 3)))[:, 0]


def _waves(timestep: Tensor, width: int) -> Tensor:
    """Sines and cosines of a timestep, (b,) to (b, width)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=timestep.device) / (width // 2))
    angle = timestep.float()[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], dim=1)
