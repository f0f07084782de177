"""Batches of a step: randomly sampled latents of photos and class images, and their encoded prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lookforward.core.path import NoisePath
from lookforward.core.types import Batch, CachedLatents, Conditioning

_PROMPTS_AT_ONCE = 32


@dataclass(frozen=True)
class Examples:
    """Latents of n images of one kind, with what belongs to each.

    prompts: n texts; plain_prompts: n without the identifier, or none. photos: (n, 3, H, W) in [0, 1], what the
    latents were encoded from, for rewards that compare with them. masks: (n, 1, h, w), how much each latent counts,
    1 in the mean of each image. subjects: (n,) int64, which of several subjects each shows. more_prompts: of each image
    further pairs of prompt and plain prompt; each draw takes one of all. dropout: share of draws whose prompt is empty.
    sizes: (n, 4), preferred: (n,), as in `Batch`.
    """

    latents: CachedLatents
    prompts: tuple[str, ...]
    plain_prompts: tuple[str, ...] = ()
    photos: Tensor | None = None
    masks: Tensor | None = None
    subjects: Tensor | None = None
    more_prompts: tuple[tuple[tuple[str, str], ...], ...] = ()
    dropout: float = 0.0
    sizes: Tensor | None = None
    preferred: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless there is a prompt for each image."""
        if len(self.prompts) != len(self.latents) or len(self.plain_prompts) not in (0, len(self.latents)):
            counts = f"{len(self.prompts)} prompts and {len(self.plain_prompts)} plain ones"
            raise ValueError(f"{len(self.latents)} images need as many prompts, got {counts}")

    @property
    def shape(self) -> torch.Size:
        """(c, h, w) of the latents of one image."""
        return self.latents.mean.shape[1:]

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """Every prompt that a draw may have, more than once."""
        more = tuple(prompt for pairs in self.more_prompts for prompt, _ in pairs)
        return (*self.prompts, *more, *(("",) if self.dropout else ()))

    @property
    def all_plain_prompts(self) -> tuple[str, ...]:
        """The same of prompts without the identifier."""
        return (*self.plain_prompts, *(plain for pairs in self.more_prompts for _, plain in pairs))

    def draw(self, count: int, path: NoisePath, generator: torch.Generator) -> Batch:
        """`count` images at random, with noise z ~ N(0, 1) and timesteps of the path's density."""
        index = torch.randint(len(self.latents), (count,), generator=generator)
        x_0 = self.latents.sample(index, generator)
        noise = torch.randn(x_0.shape, generator=generator).to(x_0.device)
        timestep = path.sample(count, generator)
        about = (self.photos, self.masks, self.subjects, self.sizes, self.preferred)
        photo, mask, subject, sizes, preferred = (None if x is None else x[index.to(x.device)] for x in about)
        prompts, plain_prompts = self._draw_prompts(index.tolist(), generator)
        return Batch(
            x_0,
            noise,
            timestep.to(x_0.device),
            prompts,
            plain_prompts=plain_prompts,
            photo=photo,
            mask=mask,
            subject=subject,
            sizes=sizes,
            preferred=preferred,
        )

    def _draw_prompts(self, chosen: list[int], generator: torch.Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A prompt and its plain prompt for each chosen image. A prompt that is dropped keeps its plain one."""
        plain = self.plain_prompts or ("",) * len(self.latents)
        pairs = [[(self.prompts[i], plain[i])] for i in chosen]
        if any(self.more_prompts):
            pairs = [[*pair, *self.more_prompts[i]] for pair, i in zip(pairs, chosen, strict=True)]
            shares = torch.rand(len(chosen), generator=generator).tolist()
            pairs = [[some[int(share * len(some))]] for some, share in zip(pairs, shares, strict=True)]
        prompts = [prompt for ((prompt, _),) in pairs]
        if self.dropout:
            shares = torch.rand(len(chosen), generator=generator).tolist()
            prompts = ["" if share < self.dropout else prompt for prompt, share in zip(prompts, shares, strict=True)]
        return tuple(prompts), tuple(plain for ((_, plain),) in pairs)


@dataclass(frozen=True)
class Buckets:
    """Examples of several shapes. A batch is of one bucket, which is drawn as often as it has images."""

    parts: tuple[Examples, ...]

    @property
    def shape(self) -> torch.Size:
        """(c, h, w) of the latents of the bucket with the most images."""
        return max(self.parts, key=lambda part: len(part.latents)).shape

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(prompt for part in self.parts for prompt in part.prompts)

    @property
    def all_prompts(self) -> tuple[str, ...]:
        return tuple(prompt for part in self.parts for prompt in part.all_prompts)

    @property
    def all_plain_prompts(self) -> tuple[str, ...]:
        return tuple(prompt for part in self.parts for prompt in part.all_plain_prompts)

    def draw(self, count: int, path: NoisePath, generator: torch.Generator) -> Batch:
        """As `Examples.draw`, from one bucket."""
        owners = [part for part in self.parts for _ in range(len(part.latents))]
        place = int(torch.randint(len(owners), (1,), generator=generator))
        return owners[place].draw(count, path, generator)


class PromptEncoder(Protocol):
    """What encodes prompts: a policy, or something that remembers what one made of them."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning: ...


class PromptCache:
    """Encoded prompts: kept if the text encoders are frozen, encoded again in each step if one is trained."""

    def __init__(self, policy: PromptEncoder, trained: bool) -> None:
        self.policy, self.trained = policy, trained
        self._kept: dict[str, Conditioning] = {}

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode all prompts of a run before its first step, if they are kept.

        What is encoded beside a prompt may change its last bit; a resumed run, which draws other prompts first,
        would then differ.
        """
        distinct = tuple(dict.fromkeys(prompts))
        if not self.trained:
            for start in range(0, len(distinct), _PROMPTS_AT_ONCE):
                self(distinct[start : start + _PROMPTS_AT_ONCE])

    def __call__(self, prompts: tuple[str, ...]) -> Conditioning:
        """τ(y) of each prompt. Equal prompts are encoded once."""
        distinct = list(dict.fromkeys(prompts))
        if self.trained:
            encoded = self.policy.encode_prompts(distinct)
            return encoded.pick([distinct.index(p) for p in prompts])
        if missing := [p for p in distinct if p not in self._kept]:
            with torch.no_grad():
                encoded = self.policy.encode_prompts(missing)
            self._kept |= {prompt: encoded.rows(slice(i, i + 1)) for i, prompt in enumerate(missing)}
        return Conditioning.cat([self._kept[p] for p in prompts])
