"""Temporarily swap the trained weights for their averages, or for the values before training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lookforward.algorithm.examples import PromptCache
from lookforward.core.protocols import Policy
from lookforward.core.sharding import is_sharded
from lookforward.core.types import State


@contextmanager
def swapped(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Parameters with other values while the context lasts; nothing is copied, except of sharded ones."""
    own = {name: p.detach().clone() if is_sharded(p) else p.data for name, p in parameters.items()}
    try:
        _put(parameters, values)
        yield
    finally:
        _put(parameters, own)


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        if is_sharded(parameter):  # FSDP keeps a view of the numbers, and would not see others in their place
            parameter.copy_(values[name])
        else:
            parameter.data = values[name]


class Averages:
    """Exponential moving averages of the trained weights.

    At step n an average keeps min(decay, (1 + n) / (10 + n)) of itself, as diffusers' `EMAModel` does, so that a
    short run does not remember where it began.

    Args:
        parameters: what is trained, by name; the averages begin with its values.
        decay: in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        kept = min(self.decay, (1 + step) / (10 + step))
        own, trained = list(self.values.values()), [p.detach() for p in self.parameters.values()]
        get_ema_multi_avg_fn(kept)(own, trained, step)


class Untouched:
    """The policy before training, which preserves the class without class images.

    It keeps a copy of what is trained as that began; an adapter begins by changing nothing.

    Args:
        policy: not trained yet.
        parameters: what will be trained, by name.
    """

    def __init__(self, policy: Policy, parameters: Mapping[str, nn.Parameter]) -> None:
        self.policy, self.parameters = policy, parameters
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._prompts = PromptCache(policy, trained=False)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode the prompts of a run, as `PromptCache.prepare`."""
        with swapped(self.parameters, self.values):
            self._prompts.prepare(prompts)

    @torch.no_grad()
    def act(self, state: State, prompts: tuple[str, ...]) -> Tensor:
        """The untouched model's output for b prompts at the x_t and t of a state: (b, c, h, w)."""
        with swapped(self.parameters, self.values):
            words = self._prompts(prompts).shown(state.conditioning.extra.get("sizes"))
            return self.policy.act(State(state.x_t, state.timestep, words))
