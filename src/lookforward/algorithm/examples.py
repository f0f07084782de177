"""What a step is made of: latents of photos and class images, drawn at random, and their encoded prompts."""

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
    1 in the mean of each image. subjects: (n,) int64, which of several subjects each shows.
    """

    latents: CachedLatents
    prompts: tuple[str, ...]
    plain_prompts: tuple[str, ...] = ()
    photos: Tensor | None = None
    masks: Tensor | None = None
    subjects: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless there is a prompt for each image."""
        if len(self.prompts) != len(self.latents) or len(self.plain_prompts) not in (0, len(self.latents)):
            counts = f"{len(self.prompts)} prompts and {len(self.plain_prompts)} plain ones"
            raise ValueError(f"{len(self.latents)} images need as many prompts, got {counts}")

    def draw(self, count: int, path: NoisePath, generator: torch.Generator) -> Batch:
        """`count` images at random, with noise z ~ N(0, 1) and timesteps of the path's density."""
        index = torch.randint(len(self.latents), (count,), generator=generator)
        x_0 = self.latents.sample(index, generator)
        noise = torch.randn(x_0.shape, generator=generator).to(x_0.device)
        timestep = path.sample(count, generator)
        photo, mask, subject = (
            None if x is None else x[index.to(x.device)] for x in (self.photos, self.masks, self.subjects)
        )
        chosen = index.tolist()
        return Batch(
            x_0,
            noise,
            timestep.to(x_0.device),
            tuple(self.prompts[i] for i in chosen),
            plain_prompts=tuple(self.plain_prompts[i] for i in chosen) if self.plain_prompts else ("",) * count,
            photo=photo,
            mask=mask,
            subject=subject,
        )


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
