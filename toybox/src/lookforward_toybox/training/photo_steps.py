"""The steps of training a photo encoder: what they look at, and their loss."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookforward.adapters.lora import LoraAdapter
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import Conditioning, State
from lookforward.models.encoders import to_unit
from lookforward.models.families.photo_prompts.flow import with_tokens
from lookforward.models.families.photo_prompts.pipeline import joined
from lookforward.models.families.sd3 import t5_options
from lookforward.models.photo_encoder import (
    PhotoEncoder,
)
from lookforward.models.photo_features import PhotoFeatures, VisionTower
from lookforward.models.policy import DiffusionPolicy
from lookforward_toybox.training.flow_model import ABSENT
from lookforward_toybox.training.latents import Latents, cache_latents
from lookforward_toybox.training.photo_data import PhotoData
from lookforward_toybox.training.tokenizer import pick_captions

WORD = "<photo>"
_WORDS, _DETAILS = 1e-3, 1e-4  # weights of the L1 terms
_SNR = 5.0
_ALL_WORDS = 0.5  # share of the steps of stage global whose prompts hold the words of all layers


class BatchWords(nn.Module):
    """A token embedding in which tokens from `first` on are the words of the sample that they stand in."""

    def __init__(self, base: nn.Module, first: int) -> None:
        super().__init__()
        self.base, self.first, self.vectors = base, first, torch.empty(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (b, l) to (b, l, d); `vectors` is (b, k, d)."""
        new = tokens >= self.first
        known = self.base(tokens.masked_fill(new, 0))
        index = (tokens - self.first).clamp(min=0)[..., None].expand_as(known)
        return torch.where(new[..., None], self.vectors.to(known).gather(1, index), known)


def with_all_words(tokens: Tensor, first: int, count: int) -> Tensor:
    """Prompts (b, l) in which the word `first` is followed by the other count - 1, the end cut off."""
    place = torch.arange(tokens.shape[1]).expand_as(tokens)
    found = (tokens == first).long()
    start = torch.where(found.any(dim=1), found.argmax(dim=1), tokens.shape[1])[:, None]  # (b, 1)
    after = tokens.gather(1, (place - count + 1).clamp(min=0))
    return torch.where(place <= start, tokens, torch.where(place < start + count, first + place - start, after))


@dataclass(frozen=True)
class EncoderTraining:
    """All that a step looks at. texts: see `read_texts`.

    tokens: (n, v, l), captions; WORD is the token `first`. vae: a folder. place: where
    the pictures are. cache: for their latents."""

    encoder: PhotoEncoder
    policy: DiffusionPolicy
    tower: VisionTower
    data: PhotoData
    tokens: Tensor
    first: int
    stage: str
    batch: int
    vae: Path
    place: Path
    cache: Path
    texts: tuple[str, ...] = ()
    offsets: LoraAdapter | None = None
    changes: tuple[nn.Parameter, ...] = ()

    @cached_property
    def module(self) -> nn.Module:
        """What is trained and saved: the encoder, with the weight offsets of stage e4t."""
        if self.offsets is None:
            return self.encoder
        return nn.ModuleDict({"encoder": self.encoder, "offsets": nn.ParameterList(self.changes)})

    @cached_property
    def latents(self) -> Latents:
        """Mean and standard deviation of each picture's latents, (n, 2c, h, w)."""
        return cache_latents(self.data.images, self.vae, self.cache, str(self.policy.device))

    def terms(self, _: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a step, and its parts."""
        policy, device = self.policy, self.policy.device
        index, source = self.data.draw(self.batch, generator)
        x_0 = self._x_0(index, generator)
        timestep = policy.path.sample(self.batch, generator)
        noise = torch.randn(x_0.shape, generator=generator)
        ids = pick_captions(self.tokens, index, generator)
        whole = self.stage == "global" and float(torch.rand((), generator=generator)) < _ALL_WORDS
        photos = to_unit(self.data.images[source.numpy()]).to(device)
        seen = self.tower(photos)
        if self.stage == "tokens":
            conditioning, penalty = self._with_tokens(ids, seen), torch.zeros(())
        else:
            conditioning, penalty = self._condition(ids.to(device), seen, whole)
        x_0, timestep, noise = x_0.to(device), timestep.to(device), noise.to(device)
        signal, level = policy.path.of(x_0).at(timestep)
        x_t = add_noise(x_0, noise, signal, level)
        action = policy.act(State(x_t, timestep, conditioning))
        target = policy.prediction.target(x_0, noise, signal, level)
        error = (action - target).square().mean(dim=(1, 2, 3))  # (b,)
        flow = policy.prediction is Prediction.FLOW
        weight = 1.0 if flow else policy.prediction.min_snr_weight(signal, level, _SNR)
        loss = (weight * error).mean()
        return {"loss": loss + penalty, "reconstruction": loss, "penalty": penalty}

    def _x_0(self, index: Tensor, generator: torch.Generator) -> Tensor:
        vae: Any = self.policy.pipeline.vae
        mean, deviation = torch.from_numpy(self.latents[index.numpy()]).float().chunk(2, dim=1)
        drawn = mean + deviation * torch.randn(mean.shape, generator=generator)
        return (drawn - (vae.config.get("shift_factor") or 0.0)) * vae.config["scaling_factor"]

    def _with_tokens(self, ids: Tensor, seen: PhotoFeatures) -> Conditioning:
        """Captions, by their numbers (b, l) as in `read_texts`, with the photos' tokens."""
        with torch.no_grad():
            prompts = self.policy.encode_prompts([self.texts[int(one)] for one in ids[:, 0]])
        absent = getattr(self.policy.pipeline, "text_encoder_3", None) is None
        tokens = prompts.tokens
        if (few := t5_options(self.policy.pipeline).get("max_sequence_length")) is not None:  # photos need their places
            tokens = F.pad(tokens, (0, 0, 0, ABSENT - few))
        tokens = with_tokens(tokens, list(self.encoder.tokens(seen).float()))
        if absent and tokens.shape[1] > ABSENT:  # zeros in T5's place: one stands for those that are left
            n = self.encoder.sizes.tokens
            tokens = torch.cat([tokens[:, :-ABSENT], tokens[:, -n:], tokens[:, -ABSENT : 1 - ABSENT]], dim=1)
        return replace(prompts, tokens=tokens)

    def _condition(self, ids: Tensor, seen: PhotoFeatures, whole: bool) -> tuple[Conditioning, Tensor]:
        """The prompts with the photos' words, of all layers if `whole`, and details; and the L1 term."""
        text: Any = self.policy.pipeline.text_encoder
        with torch.set_grad_enabled(self.stage != "local"):
            words = self.encoder.words(seen)
            if whole:
                ids = with_all_words(ids.cpu(), self.first, words.shape[1]).to(ids.device)
            text.get_input_embeddings().vectors = words
            tokens = text(ids)[0].float()
        if self.stage != "local":
            return Conditioning(tokens), _WORDS * (words / self.encoder.sizes.spread).abs().mean()
        details = self.encoder.details(seen)
        values: Any = self.encoder.projections.to_v
        penalty = torch.stack([layer(details).float().abs().mean() for layer in values]).mean()
        return Conditioning(joined(tokens, ids == self.first, details.float())), _DETAILS * penalty
