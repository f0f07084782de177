"""The reward that a config names, and the environment that pays it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from torch import Tensor

from lookforward.build.judges import DINOV2, clip_source, dino_source
from lookforward.config import Config
from lookforward.environment import Environment
from lookforward.errors import LookforwardError
from lookforward.latents import decode, decode_tiny
from lookforward.protocols import Reward
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.rewards.checked import checked
from lookforward.rewards.clip_image import ClipImageReward
from lookforward.rewards.clip_text import ClipTextReward
from lookforward.rewards.dino import DinoReward
from lookforward.rewards.dinov2 import Dinov2Reward
from lookforward.rewards.dreamsim import DreamsimReward
from lookforward.rewards.embedding import EmbeddingReward
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.lpips import LpipsReward
from lookforward.rewards.noise import NoiseReward
from lookforward.rewards.per_concept import PerConceptReward
from lookforward.rewards.ssim import SsimReward
from lookforward.rewards.terms import parse_terms
from lookforward.rewards.weighted import WeightedSum
from lookforward.toybox import IDENTITY, JUDGE
from lookforward.vision import explain_load_error, load_clip, load_dino, load_dinov2, load_embedding
from lookforward.vision.perceptual import load_dreamsim, load_lpips

NAMES = (
    "look-forward", "noise", "dino", "dinov2", "clip-image", "clip-text", "ssim", "lpips", "dreamsim",
)  # fmt: skip

WITH_REFERENCES = ("dino", "dinov2", "clip-image")  # and embedding:MODEL: they hold the photos of one subject


def build_environment(config: Config, pipeline: StableDiffusionPipeline, photos: Sequence[Tensor]) -> Environment:
    """photos: of each subject its reference photos (k, 3, h, w) in [0, 1] on the device that is trained on."""
    terms = parse_terms(config.reward)
    reward = WeightedSum([(weight, checked(_build_for_all(name, config, photos))) for weight, name in terms])
    decoder = _build_decoder(config, pipeline) if reward.needs_image else None
    return Environment(reward, config.transition, config.stride, decoder)


def check_reward(config: Config) -> None:
    """Find what is wrong with the reward's words before anything is loaded or drawn.

    Raises:
        LookforwardError: it is not a sum of rewards, or one of them is not known, or only ever judges.
    """
    for _, name in parse_terms(config.reward):
        if name.startswith("embedding:"):
            _refuse_judges(name)
        elif name not in NAMES:
            if ":" not in name:
                raise _unknown(name)
            load_callable(name)


def _refuse_judges(name: str) -> None:
    source = Path(name.removeprefix("embedding:"))
    if source.exists() and source.resolve() in (IDENTITY.resolve(), JUDGE.resolve()):
        raise LookforwardError(
            f"Reward {name!r}: Toybox's {source.name} encoder only ever judges, so that one score is never trained on. "
            "Take dino, or another encoder."
        )


def _build_for_all(name: str, config: Config, photos: Sequence[Tensor]) -> Reward:
    if len(photos) > 1 and (name in WITH_REFERENCES or name.startswith("embedding:")):
        return PerConceptReward([build_reward(name, config, some) for some in photos])
    return build_reward(name, config, photos[0])


def build_reward(name: str, config: Config, photos: Tensor) -> Reward:
    """One reward by its name in docs/rewards.md.

    Raises:
        LookforwardError: there is none of that name, or what it needs cannot be loaded.
    """
    device = photos.device
    match name:
        case "look-forward":
            return LookForwardReward()
        case "noise":
            return NoiseReward()
        case "dino":
            return DinoReward(load_dino(dino_source(config.model), device), photos)
        case "dinov2":
            return Dinov2Reward(load_dinov2(DINOV2, device), photos)
        case "clip-image":
            return ClipImageReward(load_clip(clip_source(config.model), device).image, photos)
        case "clip-text":
            return ClipTextReward(load_clip(clip_source(config.model), device))
        case "ssim":
            return SsimReward()
        case "lpips":
            return LpipsReward(load_lpips(device))
        case "dreamsim":
            return DreamsimReward(load_dreamsim(device))
        case _ if name.startswith("embedding:"):
            return EmbeddingReward(load_embedding(name.removeprefix("embedding:"), device), photos, name)
        case _ if ":" in name:
            return CallableReward(load_callable(name), name)
        case _:
            raise _unknown(name)


def _unknown(name: str) -> LookforwardError:
    return LookforwardError(
        f"There is no reward {name!r}. There are: {', '.join(NAMES)}, embedding:MODEL, and module:function for one of "
        "your own."
    )


def _build_decoder(config: Config, pipeline: StableDiffusionPipeline) -> Callable[[Tensor], Tensor]:
    if not config.decoder:
        return lambda x_0: decode(pipeline.vae, x_0)
    try:
        tiny: Any = AutoencoderTiny.from_pretrained(config.decoder, torch_dtype=torch.float32)
    except Exception as error:
        raise explain_load_error(config.decoder, error) from error
    tiny = tiny.to(pipeline.device).eval().requires_grad_(False)
    return lambda x_0: decode_tiny(tiny, x_0)
