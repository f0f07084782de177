"""What the parts ask of one another. Anything that answers so may take a part's place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from lookforward.core.path import Schedule
from lookforward.core.types import State, Transition


class Policy(Protocol):
    """A diffusion model as a deterministic policy, Eq. 2."""

    @property
    def schedule(self) -> Schedule: ...

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """τ(y): b texts to (b, l, d)."""
        ...

    def act(self, state: State) -> Tensor:
        """ẑ_t = ε_θ(s_t): (b, c, h, w) float32."""
        ...


class Reward(Protocol):
    """How good a transition is."""

    name: str
    needs_image: bool  # whether x_0_hat must be decoded first

    def __call__(self, transition: Transition) -> Tensor:
        """(b,) float32, higher is better."""
        ...


class RewardSum(Protocol):
    """Rewards that are paid together."""

    name: str
    needs_image: bool

    def parts(self, transition: Transition) -> dict[str, Tensor]:
        """Each reward by name: (b,)."""
        ...

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """What is paid for `parts`: (b,)."""
        ...


Decode = Callable[[Tensor], Tensor]  # clean latents (b, c, h, w) to images (b, 3, H, W) in [0, 1]


class Critic(Protocol):
    """Q_φ: predicts the return of a transition. An nn.Module, so that it can be trained and saved."""

    def __call__(self, transition: Transition) -> Tensor:
        """(b,) float32; differentiable with respect to the action."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Any]: ...


class Adapter(Protocol):
    """What is trainable in a policy, and how it is written down for others."""

    @property
    def changes_prompts(self) -> bool:
        """Whether training it changes what prompts are encoded to."""
        ...

    def attach(self, policy: Any) -> dict[str, nn.Parameter]:
        """Make the adapter's parameters trainable and all others not; returns them by name."""
        ...

    def detach(self, policy: Any) -> None:
        """Take out of the policy what `attach` put in; trained weights of its own stay as they are."""
        ...

    def export(self, policy: Any, folder: Path) -> None:
        """Write what users load elsewhere into `folder`, which is empty."""
        ...
