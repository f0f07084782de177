"""RPO's pairs: images that the untouched model draws of the subject's name, and how likely a photo is preferred.

    r(x, y) = 1 / (λ / I(x) + (1 - λ) / T(x, y)),    p = σ(mean over photos x of r(x, y) - r(drawn, y))

the λ-harmonic reward of Miao et al. (2024), on cosines that are moved from [-1, 1] to [0, 1]: I is likeness to the
photos and T agreement with the prompt y, without the identifier.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lookforward.algorithm.examples import Examples
from lookforward.assembly.class_images import ClassImages, draw_class_images
from lookforward.assembly.evaluators import encoder_sources
from lookforward.assembly.examples import sizes_of
from lookforward.assembly.validation import validation_scenes
from lookforward.config.settings import Settings
from lookforward.data.boxes import Cut
from lookforward.data.subject import Subject
from lookforward.models.encoders import Encoders, to_unit
from lookforward.models.encoders.similarity import PromptSimilarity, Similarity
from lookforward.models.latents import encode
from lookforward.models.policy import DiffusionPolicy

_PROMPTS = 8  # as many as in the paper


def build_drawn_images(settings: Settings, subject: Subject, policy: DiffusionPolicy, photos: Tensor) -> ClassImages:
    """Images that the untouched model draws, `objective.preference_images` for each of up to eight prompts.

    photos: (k, 3, h, w) in [0, 1], of the subject.

    Raises:
        LookforwardError: the cache cannot be written, or an encoder cannot be loaded.
    """
    scenes = dict.fromkeys(validation_scenes(settings.model.name, subject.class_noun, _PROMPTS))
    count, side = settings.objective.preference_images, settings.data.resolution
    prompts = [f"a photo of {subject.name} {scene}" for scene in scenes for _ in range(count)]
    plain = [f"a photo of a {subject.class_noun} {scene}" for scene in scenes for _ in range(count)]
    pixels = np.concatenate(draw_class_images(settings, policy.pipeline, list(dict.fromkeys(prompts)), count))
    images = to_unit(pixels).to(policy.device)
    preferred = preferences(settings, photos, images, plain)
    sizes = sizes_of([Cut((side, side))] * len(prompts), policy.family, policy.device)
    latents = encode(policy.pipeline, to_unit(pixels))
    return ClassImages(pixels, Examples(latents, tuple(prompts), sizes=sizes, preferred=preferred))


@torch.no_grad()
def preferences(settings: Settings, photos: Tensor, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """The probability, (n,) in (0, 1), that a photo is preferred to each drawn image.

    photos: (k, 3, h, w), images: (n, 3, h, w), both in [0, 1]. prompts: n, of the images, without the identifier.
    """
    weight = settings.objective.preference_identity
    encoders = Encoders(encoder_sources(settings.model.name), images.device)
    follows = PromptSimilarity(encoders.clip)
    like = Similarity(encoders.dino, photos) if weight > 0 else None

    def reward(some: Tensor, texts: Sequence[str]) -> Tensor:
        identity = like(some) if like is not None else torch.ones(len(some), device=some.device)
        return harmonic_reward(identity, follows(some, texts), weight)

    own = {prompt: reward(photos, [prompt] * len(photos)).mean() for prompt in dict.fromkeys(prompts)}
    return (torch.stack([own[prompt] for prompt in prompts]) - reward(images, prompts)).sigmoid()


def harmonic_reward(identity: Tensor, prompt: Tensor, weight: float) -> Tensor:
    """The λ-harmonic reward of two cosines, each (n,) in [-1, 1]: (n,) in [0, 1]. weight: λ in [0, 1], of identity."""
    tiny = 1e-8  # as in the authors' code
    parts = ((weight, (identity + 1) / 2), (1 - weight, (prompt + 1) / 2))
    return 1 / sum(share / (part + tiny) for share, part in parts if share > 0)  # pyright: ignore[reportReturnType]
