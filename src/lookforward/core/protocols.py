"""What the parts ask of one another. Anything that answers so may take a part's place."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from lookforward.core.path import NoisePath
from lookforward.core.prediction import Prediction
from lookforward.core.types import CachedLatents, Conditioning, State, Transition


class Policy(Protocol):
    """A generative model as a deterministic policy, Eq. 2."""

    @property
    def path(self) -> NoisePath: ...

    @property
    def prediction(self) -> Prediction: ...

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """τ(y) of b texts."""
        ...

    def act(self, state: State) -> Tensor:
        """o, the model's own output in s_t: (b, c, h, w) float32."""
        ...


class Reward(Protocol):
    """How good a transition is."""

    name: str
    needs_image: bool  # whether x_0_hat must be decoded first

    def __call__(self, transition: Transition) -> Tensor:
        """(b,) float32, higher is better."""
        ...


class RewardSum(Protocol):
    """A weighted sum of rewards."""

    name: str
    needs_image: bool

    def parts(self, transition: Transition) -> dict[str, Tensor]:
        """Each reward by name, without its weight: (b,)."""
        ...

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Their weighted sum: (b,)."""
        ...


Decode = Callable[[Tensor], Tensor]  # clean latents (b, c, h, w) to images (b, 3, H, W) in [0, 1]


@runtime_checkable
class Keeping(Protocol):
    """A training step that keeps tensors of its own from one time to the next, which a checkpoint saves."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None: ...


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
    """Rates finished images, higher is better; for evaluation only, never for training (that is a reward)."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1]; n prompts → one score per image (n,)."""
        ...


class Family(Protocol):
    """Model architectures that differ in their weights alone, such as Stable Diffusion 1's and 2's.

    Everything that only one family knows is in its one file in `models/families/`: the names of the pipeline's
    components, how prompts and images are encoded, what the denoiser is called with.

    name: as in settings tables, `[family.sd]`. label: for people. pipeline_class: diffusers' class, as in
    model_index.json. denoiser, text_encoders, tokenizers: attributes of that pipeline, in this order; those that a
    pipeline may lack are in `optional`. load_options: further arguments of `from_pretrained`. capabilities: what
    adapters may need of it: "cross-attention" (layers that read the prompt alone), "learned-words" (text encoders that
    can learn tokens), "one-text-encoder" (no other reads the prompt), "sizes" (it is shown the size and the crop of a
    photo), "photo-prompts" (it can be shown photos beside the prompt).
    word_files: the text encoders that can learn tokens, to the name of their vectors in a learned word's file;
    of a single one that is empty, since its file has the word's own name. lora_targets: the layers that LoRA adapts,
    for each component. comfyui: what stands before a layer's name in the LoRAs that ComfyUI reads, for each component:
    "lora_unet_", after which dots become underscores, or "transformer.", after which they stay; empty if it reads none.
    schedulers: samplers by the names that users know, to diffusers' classes; the first is the default. defaults: dotted
    settings that differ.
    """

    name: str
    label: str
    pipeline_class: str
    denoiser: str
    text_encoders: tuple[str, ...]
    tokenizers: tuple[str, ...]
    optional: frozenset[str]
    load_options: Mapping[str, Any]
    capabilities: frozenset[str]
    word_files: Mapping[str, str]
    lora_targets: Mapping[str, tuple[str, ...]]
    comfyui: Mapping[str, str]
    schedulers: Mapping[str, str]
    defaults: Mapping[str, Any]

    def kind_problem(self, pipeline: Any) -> str:
        """Why a pipeline of the right class is none of this family; "" if it is one."""
        ...

    def distilled(self, pipeline: Any) -> str:
        """The base to train in the place of a pipeline that was distilled to draw in few steps; "" if it was not."""
        ...

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        """resolution: side of the images in pixels, by which some families shift their levels; None: native."""
        ...

    def prediction(self, pipeline: Any) -> Prediction: ...

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        """The tokenizer that counts a prompt's tokens, and how many of them the model reads, without marks."""
        ...

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """As the pipeline encodes them itself when it draws."""
        ...

    def noise_share(self, timestep: Tensor) -> Tensor:
        """How noisy a state is, in [0, 1], from the timestep that the denoiser is called with: (b,) or () each."""
        ...

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        """The denoiser's output in a state: (b, c, h, w), whatever packing happens inside. noise_level: (b,), σ_t."""
        ...

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        """Images (n, 3, H, W) in [0, 1] to their latents; shift, scale and patches are this family's."""
        ...

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        """Latents (n, c, h, w) to images (n, 3, H, W) in [0, 1]; differentiable."""
        ...

    def size_unit(self, pipeline: Any) -> int:
        """Pixels that a resolution must be a multiple of."""
        ...

    def native_size(self, pipeline: Any) -> int:
        """Side in pixels of the images that the model draws where nothing else is asked for."""
        ...

    def set_sampler(self, pipeline: Any) -> None:
        """Let the pipeline draw with the deterministic sampler that is the policy of the paper."""
        ...

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        """What the pipeline's call is given for a scale of guidance, and for prompts to lead away from.

        Raises:
            LookforwardError: it cannot be led away from a prompt.
        """
        ...

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        """The denoiser's outputs with the prompt and with the empty one, joined as its pipeline does: (b, c, h, w)."""
        ...

    def signature(self, pipeline: Any) -> list[Any]:
        """What images depend on beside the weights, as plain values: noise levels, scaling, vocabulary."""
        ...
