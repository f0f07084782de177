"""Q_φ with everything that is learned along with it, as one module: what a checkpoint holds."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.core.types import Transition
from lookforward.critics.scale import ExplainedVariance, ReturnScale


class ScaledCritic(nn.Module):
    """A critic network on normalised returns, its target network, the scale of returns and the record of its fit.

    Args:
        network: nn.Module from a transition to (b,), such as `ResidualCritic` or `StateActionCritic`.
        scale: brings returns to one scale.
        target_momentum: how much of itself the target network of Eq. 9 keeps at each step, in [0, 1); None: there is
            no target network.
    """

    def __init__(self, network: nn.Module, scale: ReturnScale, target_momentum: float | None = None) -> None:
        super().__init__()
        self.network, self.scale, self.target_momentum = network, scale, target_momentum
        self.explained_variance = ExplainedVariance()
        self.target_network = None if target_momentum is None else copy.deepcopy(network).requires_grad_(False)

    def forward(self, transition: Transition) -> Tensor:
        """Q_φ, (b,), in units of `scale`: what the policy maximises."""
        return self.network(transition)

    def trained_parameters(self) -> list[nn.Parameter]:
        """The network's."""
        return list(self.network.parameters())

    def target_return(self, transition: Transition) -> Tensor:
        """What the target network predicts, (b,), in units of the reward: the Q' of Eq. 9."""
        if self.target_network is None:
            raise ValueError("this critic was made without a target network")
        return self.scale.restore(self.target_network(transition), transition.state.timestep)

    @torch.no_grad()
    def update_target_network(self) -> None:
        """Soft update: move the target network towards the trained one."""
        if self.target_network is not None and self.target_momentum is not None:
            trained: list[Any] = self.trained_parameters()
            torch._foreach_lerp_(list(self.target_network.parameters()), trained, 1 - self.target_momentum)
