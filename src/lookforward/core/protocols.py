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


class Score(Protocol):
    """Rates finished images; for evaluation only, never for training (that is a reward)."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    @property
    def higher_is_better(self) -> bool: ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1]; n prompts → one score per image (n,)."""
        ...


class Family(Protocol):
    """Model architectures that differ in their weights alone, such as Stable Diffusion 1's and 2's.

    Everything that only one family knows is in its one file in `models/families/`: the names of the pipeline's
    components, how prompts and images are encoded, what the denoiser is called with.

    name: as in settings tables, `[family.sd]`. label: for people. pipeline_class: diffusers' class, as in
    model_index.json. denoiser, text_encoders, tokenizers: attributes of that pipeline, in this order; those that a
    pipeline may lack are in `optional`. capabilities: what adapters may need of it: "cross-attention" (a layer that
    reads the prompt alone), "learned-words" (one text encoder that can learn tokens). lora_targets: the layers that
    LoRA adapts, for each component. schedulers: samplers by the names that users know, to diffusers' classes; the
    first is the default. defaults: dotted settings that differ for this family.
    """

    name: str
    label: str
    pipeline_class: str
    denoiser: str
    text_encoders: tuple[str, ...]
    tokenizers: tuple[str, ...]
    optional: frozenset[str]
    capabilities: frozenset[str]
    lora_targets: Mapping[str, tuple[str, ...]]
    schedulers: Mapping[str, str]
    defaults: Mapping[str, Any]
