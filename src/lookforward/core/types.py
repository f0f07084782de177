"""What passes between the parts of the algorithm. Shapes, ranges and units are stated once, here.

b: batch, c: latent channels, h and w: latent height and width, l: prompt tokens, d: width of an encoded token.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Conditioning:
    """τ(y), a batch of encoded prompts.

    tokens: (b, l, d). mask: (b, l), which tokens count; None: all. pooled: (b, p), one vector for the whole prompt.
    extra: what else a family's denoiser is shown, each (b, …).
    "guidance" among it, (b,), is the scale of guidance, of a model that reads it as a number.
    "sizes", (b, 4), are those of a photo, as in `Batch`, of a model that is shown them; without, it is as drawing is.
    """

    tokens: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, index: slice | Tensor) -> "Conditioning":
        """Some prompts of the batch; an index may name one more than once."""
        return rows(self, index)

    def pick(self, places: Sequence[int]) -> "Conditioning":
        """Prompts of the batch by their places; one that is named more than once gathers the gradient of all."""

        def stack(each: Sequence[Tensor]) -> Tensor:
            return torch.stack([each[i] for i in places])

        return map_tensors(self, lambda x: stack(x.unbind()))

    def expand(self, count: int) -> "Conditioning":
        """One prompt, for `count` samples; a batch of as many stays as it is."""
        return map_tensors(self, lambda x: x.expand(count, *x.shape[1:]))

    def mean_token(self) -> Tensor:
        """The mean of the tokens that count, (b, d) float32."""
        tokens = self.tokens.float()
        if self.mask is None:
            return tokens.mean(dim=1)
        mask = self.mask.float()  # (b, l)
        return (mask[:, :, None] * tokens).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def shown(self, sizes: Tensor | None) -> "Conditioning":
        """The same prompts beside photos of these sizes, (b, 4); as it is, if there are none."""
        return self if sizes is None else dataclasses.replace(self, extra={**self.extra, "sizes": sizes})

    def detach(self) -> "Conditioning":
        return map_tensors(self, Tensor.detach)

    def to(self, *to: Any) -> "Conditioning":
        """On another device, or its numbers in another precision."""
        return map_tensors(self, lambda x: x.to(*to))

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """Batches one after the other; their prompts must be of one length."""

        def join(of: Callable[["Conditioning"], Tensor | None]) -> Tensor | None:
            found = [x for x in map(of, parts) if x is not None]
            return torch.cat(found) if found else None

        return Conditioning(
            torch.cat([part.tokens for part in parts]),
            join(lambda part: part.mask),
            join(lambda part: part.pooled),
            {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra},
        )


@dataclass(frozen=True)
class State:
    """s_t = (x_t, t, τ(y)): what the policy sees.

    x_t: (b, c, h, w), latents with noise, VAE scaling applied.
    timestep: (b,) int64, from 0 (almost clean) to T-1 (almost noise).
    conditioning: b encoded prompts.
    """

    x_t: Tensor
    timestep: Tensor
    conditioning: Conditioning


@dataclass(frozen=True)
class Transition:
    """One action of the policy, with all that a reward or a critic may look at. Single precision.

    state: where it was taken.
    action: (b, c, h, w), the model's own output o (Eq. 2), whatever it predicts: see `core.prediction`.
    target: (b, c, h, w), what Eq. 1 regresses the action on. noise: (b, c, h, w), z: what is really in x_t.
    x_0: (b, c, h, w), clean latents of the photo. x_0_hat: the same, x̂_0,t of Eq. 7, that the action predicts.
    signal, noise_level: (b,), a_t and σ_t.
    prompts: b texts without the identifier, which no encoder but the policy's own ever learns.
    photo: (b, 3, H, W) in [0, 1], the reference photo that x_0 was encoded from.
    mask: (b, 1, h, w), how much each latent of the reference photo counts, 1 in the mean; None: all alike.
    subject: (b,) int64, which of the run's subjects each sample shows; None: there is one.
    image: (b, 3, H, W) in [0, 1], x_0_hat decoded. None unless a reward needs it.
    known: (b, c, h, w), the untouched model's output here, where a loss compares with it. preferred: as in `Batch`.
    """

    state: State
    action: Tensor
    target: Tensor
    noise: Tensor
    x_0: Tensor
    x_0_hat: Tensor
    signal: Tensor
    noise_level: Tensor
    prompts: tuple[str, ...] = ()
    photo: Tensor | None = None
    image: Tensor | None = None
    mask: Tensor | None = None
    subject: Tensor | None = None
    known: Tensor | None = None
    preferred: Tensor | None = None

    def masked(self, error: Tensor) -> Tensor:
        """An elementwise error (b, c, h, w), each latent by how much it counts."""
        return error if self.mask is None else self.mask * error

    def rows(self, index: slice | Tensor) -> "Transition":
        """Some samples of the transition."""
        return rows(self, index)

    def detach(self) -> "Transition":
        """The same without its gradient: what the critic learns from."""
        return map_tensors(self, Tensor.detach)

    @staticmethod
    def cat(parts: Sequence["Transition"]) -> "Transition":
        """Samples one after the other; what one of them lacks, all do."""

        def join(each: Sequence[Any]) -> Any:
            match each[0]:
                case None:
                    return None
                case Conditioning():
                    return Conditioning.cat(each)
                case State() | Transition():
                    names = [one.name for one in dataclasses.fields(each[0])]
                    return type(each[0])(*(join([getattr(one, name) for one in each]) for name in names))
                case tuple():
                    return tuple(text for texts in each for text in texts)
                case _:
                    return torch.cat(list(each))

        return join(parts)


@dataclass(frozen=True)
class Batch:
    """Reference photos to learn from and, with prior preservation, class images to remember the class by.

    x_0, noise: (b, c, h, w); timestep: (b,) int64; prompts: b texts; class_images: as many of those, or None.
    plain_prompts: the prompts without the identifier. photo: (b, 3, H, W) in [0, 1], what x_0 was encoded from.
    mask, subject: as in `Transition`. sizes: (b, 4), the original height and width of each photo, and top and left of
    its crop in the resized photo, all in pixels; None if the model is not shown them. preferred: (b,) in [0, 1], how
    likely a photo is preferred to a drawn image.
    """

    x_0: Tensor
    noise: Tensor
    timestep: Tensor
    prompts: tuple[str, ...]
    class_images: "Batch | None" = None
    plain_prompts: tuple[str, ...] = ()
    photo: Tensor | None = None
    mask: Tensor | None = None
    subject: Tensor | None = None
    sizes: Tensor | None = None
    preferred: Tensor | None = None


@dataclass(frozen=True)
class StepResult:
    """What one step of training did. step: counted from 1.

    terms: the logged metrics by name, plain numbers; docs/algorithm.md has the formula of each.
    seconds: time that the step took. checkpoint: whether a checkpoint was written after it.
    """

    step: int
    terms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    checkpoint: bool = False


@dataclass(frozen=True)
class CachedLatents:
    """The VAE's posterior of n photos, kept so that each is encoded once.

    mean, std: (n, c, h, w) float32, before the VAE's scaling. x_0 = (latent - shift) · scaling.
    """

    mean: Tensor
    std: Tensor
    scaling: float
    shift: float = 0.0

    def __len__(self) -> int:
        return len(self.mean)

    def sample(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """x_0 of the chosen photos, sampled anew each time: index (b,) int64 to (b, c, h, w), scaled."""
        noise = torch.randn(len(index), *self.mean.shape[1:], generator=generator)
        return (self.mean[index] + self.std[index] * noise.to(self.mean.device) - self.shift) * self.scaling


def map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """A dataclass of this module with each of its tensors changed, those of nested ones too."""
    return _map(value, change, lambda texts: texts)


def rows(value: T, index: slice | Tensor) -> T:
    """Some samples of a dataclass of this module: of its tensors and of its texts."""
    chosen = index if isinstance(index, slice) else index.tolist()
    return _map(
        value,
        lambda x: x[index],
        lambda texts: texts[chosen] if isinstance(chosen, slice) else tuple(texts[i] for i in chosen if texts),
    )


def _map(value: Any, change: Callable[[Tensor], Tensor], texts: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return texts(value)
    if isinstance(value, Mapping):
        return {name: _map(one, change, texts) for name, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _map(getattr(value, f.name), change, texts) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value
