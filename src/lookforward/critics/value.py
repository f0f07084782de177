"""Q_φ with everything that is learned along with it, as one module: what a checkpoint holds."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.core.types import Transition
from lookforward.critics.scale import Fit, ReturnScale


class ValueFunction(nn.Module):
    """A critic on normalised returns, its slow copy for Eq. 9, the scale of returns and the record of its fit.

    Args:
        critic: nn.Module from a transition to (b,).
        scale: brings returns to one scale.
        slowness: how much of itself the slow copy keeps at each step, in [0, 1); None makes no copy.
    """

    def __init__(self, critic: nn.Module, scale: ReturnScale, slowness: float | None = None) -> None:
        super().__init__()
        self.critic, self.scale, self.slowness = critic, scale, slowness
        self.fit = Fit()
        self.slow = None if slowness is None else copy.deepcopy(critic).requires_grad_(False)

    def forward(self, transition: Transition) -> Tensor:
        """Q_φ, (b,), in units of `scale`: what the policy ascends."""
        return self.critic(transition)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The critic's own."""
        return list(self.critic.parameters())

    def slow_return(self, transition: Transition) -> Tensor:
        """What the slow copy foretells, (b,), as a return: the Q' of Eq. 9."""
        if self.slow is None:
            raise ValueError("this value function was made without a slow copy")
        return self.scale.restore(self.slow(transition), transition.state.timestep)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the slow copy towards the critic."""
        if self.slow is not None and self.slowness is not None:
            trained: list[Any] = self.trained_parameters()
            torch._foreach_lerp_(list(self.slow.parameters()), trained, 1 - self.slowness)
