"""The embeddings of a learned word that differ by cross-attention layer and timestep: those of P+ and of NeTI.

An export carries a copy of this file beside `pipeline.py`, so it needs torch and nothing else. b: prompts, n:
cross-attention layers, d: width of the text encoder.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ANCHORS = 10  # timesteps that NeTI compares a timestep with, for each layer
SIGMA_TIMESTEP, SIGMA_LAYER = 0.03, 2.0  # how fast NeTI's waves run: the paper's


class LayerWords(nn.Module):
    """P+: one vector for each layer.

    Args:
        vectors: (n, d), trained. initial: (d,), the vector that they began with.
    """

    kind = "p-plus"
    needs_timestep = False
    strength = 1.0  # 0 is the initial word, 1 the learned one

    def __init__(self, vectors: Tensor, initial: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.clone())
        self.initial = nn.Buffer(initial.clone())

    def forward(self, timestep: Tensor) -> tuple[Tensor, Tensor | None]:
        """Timesteps (b,) to the word's vectors (b, n, d)."""
        vectors = self.vectors if self.strength == 1 else torch.lerp(self.initial, self.vectors, self.strength)
        return vectors.expand(len(timestep), *vectors.shape), None

    def about(self) -> dict[str, str]:
        return {}

    @staticmethod
    def restore(tensors: dict[str, Tensor], about: dict[str, str]) -> "LayerWords":
        return LayerWords(tensors["vectors"], tensors["initial"])


class SpaceTimeWords(nn.Module):
    """NeTI: a network from timestep and layer to a vector, and to another that is added behind the text encoder.

    It begins as the initial word, whatever timestep and layer.

    Args:
        initial: (d,), the initial word's vector, whose length every vector keeps.
        frequencies: (f, 2), of the waves that encode timestep and layer; see `draw_frequencies`.
        layers: n. width: of the hidden layers. bypass: α, see `forward`.
        generator: source of the first weights; torch's own where None.

    Attributes:
        draw_keep: for nested dropout, gives (b, n) numbers of hidden units to keep, from 1 to `width`, for b and n.
            Asked only where gradients are taken; never for drawing.
    """

    kind = "neti"
    needs_timestep = True
    strength = 1.0  # 0 is the initial word, 1 the learned one

    def __init__(
        self,
        initial: Tensor,
        frequencies: Tensor,
        layers: int,
        width: int,
        bypass: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.width, self.bypass = layers, width, bypass
        self.draw_keep: Callable[[int, int], Tensor] | None = None
        self.initial, self.frequencies = nn.Buffer(initial.clone()), nn.Buffer(frequencies.clone())
        times = torch.arange(ANCHORS) * (1000 / ANCHORS)
        grid = torch.cartesian_prod(times, torch.arange(layers, dtype=torch.float32))  # (10·n, 2)
        self.anchors = nn.Buffer(waves(grid, frequencies), persistent=False)  # (10·n, 2·f)
        with torch.random.fork_rng(devices=[]):  # torch draws first weights, which are drawn anew below
            self.first, self.first_norm = nn.Linear(len(grid), width), nn.LayerNorm(width)
            self.second, self.second_norm = nn.Linear(width, width), nn.LayerNorm(width)
            self.last = nn.Linear(width, 2 * len(initial))
        with torch.no_grad():
            for linear in (self.first, self.second):
                nn.init.kaiming_uniform_(linear.weight, a=5**0.5, generator=generator)
                linear.bias.zero_()
            self.last.weight.zero_()
            # Each number of it near 1 in size, so that a step of the optimizer turns the vector by little
            start = F.normalize(initial, dim=0) * len(initial) ** 0.5
            self.last.bias.copy_(torch.cat([start, torch.zeros_like(start)]))

    def forward(self, timestep: Tensor) -> tuple[Tensor, Tensor | None]:
        """Timesteps (b,) to the word's vectors (b, n, d), all as long as the initial one, and the bypass (b, n, d).

        The bypass is at most α long. Times the length of what the text encoder makes of the word, it is added to that.
        """
        with torch.autocast(timestep.device.type, enabled=False):  # half precision cannot distinguish timesteps
            layer = torch.arange(self.layers, device=timestep.device)
            place = torch.stack(torch.broadcast_tensors(timestep.float()[:, None], layer.float()), dim=-1)  # (b, n, 2)
            h = waves(place, self.frequencies) @ self.anchors.T  # (b, n, 10·n): nearness to each anchor
            h = F.leaky_relu(self.first_norm(self.first(h)))
            h = F.leaky_relu(self.second_norm(self.second(h)))
            if self.draw_keep is not None and torch.is_grad_enabled():
                keep = self.draw_keep(*h.shape[:2]).to(h.device)  # (b, n)
                h = h * (torch.arange(self.width, device=h.device) < keep[..., None])
            base, past = self.last(h).chunk(2, dim=-1)
            direction = F.normalize(base, dim=-1)
            if self.strength != 1:
                start = F.normalize(self.initial, dim=0)
                direction = F.normalize(torch.lerp(start, direction, self.strength), dim=-1)
            past = past / past.shape[-1] ** 0.5
            past = past / past.norm(dim=-1, keepdim=True).clamp(min=1)
            return direction * self.initial.norm(), self.strength * self.bypass * past

    def about(self) -> dict[str, str]:
        return {"bypass": repr(self.bypass)}

    @staticmethod
    def restore(tensors: dict[str, Tensor], about: dict[str, str]) -> "SpaceTimeWords":
        width, inputs = tensors["first.weight"].shape
        words = SpaceTimeWords(
            tensors["initial"], tensors["frequencies"], inputs // ANCHORS, width, float(about["bypass"])
        )
        words.load_state_dict(tensors)
        return words


def draw_frequencies(generator: torch.Generator, count: int = 1024) -> Tensor:
    """Random Fourier features (Rahimi and Recht 2007) of timestep and layer: (count, 2)."""
    return torch.randn(count, 2, generator=generator) * torch.tensor([SIGMA_TIMESTEP, SIGMA_LAYER])


def waves(place: Tensor, frequencies: Tensor) -> Tensor:
    """Timestep and layer (…, 2) to sines and cosines (…, 2·f), a vector of length 1."""
    angle = place @ frequencies.T
    return torch.cat([angle.sin(), angle.cos()], dim=-1) / len(frequencies) ** 0.5
