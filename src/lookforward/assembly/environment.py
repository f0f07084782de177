"""The reward that a config names, and the environment that pays it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from torch import Tensor

from lookforward.algorithm.environment import Environment
from lookforward.assembly.evaluators import DINOV2, clip_source, dino_source
from lookforward.config.settings import Settings
from lookforward.core.protocols import Reward
from lookforward.errors import LookforwardError
from lookforward.models.encoders import explain_load_error, load_clip, load_dino, load_dinov2, load_embedding
from lookforward.models.encoders.metadata import is_evaluation_only
from lookforward.models.encoders.perceptual import load_dreamsim, load_lpips, require_package
from lookforward.models.latents import decode, decode_tiny
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
from lookforward.rewards.per_subject import PerSubjectReward
from lookforward.rewards.ssim import SsimReward
from lookforward.rewards.terms import parse_terms
from lookforward.rewards.weighted import WeightedSum

NAMES = (
    "look-forward", "noise", "dino", "dinov2", "clip-image", "clip-text", "ssim", "lpips", "dreamsim",
)  # fmt: skip

_PACKAGES = ("lpips", "dreamsim")  # that a reward of the same name needs
WITH_REFERENCES = ("dino", "dinov2", "clip-image")  # and embedding:MODEL: they hold the photos of one subject


def build_environment(settings: Settings, pipeline: StableDiffusionPipeline, photos: Sequence[Tensor]) -> Environment:
    """photos: of each subject its reference photos (k, 3, h, w) in [0, 1] on the device that is trained on."""
    terms, loaded = parse_terms(settings.objective.reward), Encoders(photos[0].device)
    reward = WeightedSum([(weight, checked(_build_for_all(name, settings, photos, loaded))) for weight, name in terms])
    decoder = _build_decoder(settings, pipeline) if reward.needs_image else None
    return Environment(reward, settings.objective.transition, settings.objective.stride, decoder)


def check_reward(settings: Settings) -> None:
    """Find what is wrong with the reward's words before anything is loaded or drawn.

    Raises:
        LookforwardError: it is not a sum of rewards, or one of them is not known, lacks its package, is for
            evaluation only, or gives no gradient where one is needed.
    """
    for _, name in parse_terms(settings.objective.reward):
        if name in _PACKAGES:
            require_package(name)
        elif name.startswith("embedding:"):
            _refuse_evaluation_only(name)
        elif name not in NAMES:
            if ":" not in name:
                raise _unknown(name)
            load_callable(name)
            if settings.objective.reward_gradient == "direct" or settings.baseline.name == "draft":
                remedy = "take the route through a critic (route = critic, as recipe state-action does)"
                method = "DRaFT" if settings.baseline.name == "draft" else "objective.reward_gradient = direct"
                raise LookforwardError(
                    f"Reward {name!r} is a function and gives no gradient, which {method} needs: {remedy}."
                )


def _refuse_evaluation_only(name: str) -> None:
    if is_evaluation_only(Path(name.removeprefix("embedding:"))):
        raise LookforwardError(
            f"Reward {name!r}: this encoder is for evaluation only, so that no reward trains on every score. "
            "Use another, such as dino.",
            code="encoder-for-evaluation",
        )


class Encoders:
    """Each encoder once, however many rewards and subjects it serves."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._loaded: dict[tuple[str, str], Any] = {}

    def __call__(self, load: Callable[..., Any], source: str) -> Any:
        """What `load(source, device)` returned the first time."""
        key = load.__name__, source
        if key not in self._loaded:
            self._loaded[key] = load(source, self.device)
        return self._loaded[key]


def _build_for_all(name: str, settings: Settings, photos: Sequence[Tensor], loaded: Encoders) -> Reward:
    if len(photos) > 1 and (name in WITH_REFERENCES or name.startswith("embedding:")):
        return PerSubjectReward([build_reward(name, settings, some, loaded) for some in photos])
    return build_reward(name, settings, photos[0], loaded)


def build_reward(name: str, settings: Settings, photos: Tensor, loaded: Encoders | None = None) -> Reward:
    """One reward by its name in docs/rewards.md. loaded: encoders that other rewards may share.

    Raises:
        LookforwardError: there is none of that name, or what it needs cannot be loaded.
    """
    device = photos.device
    load = loaded or Encoders(device)
    match name:
        case "look-forward":
            return LookForwardReward()
        case "noise":
            return NoiseReward()
        case "dino":
            return DinoReward(load(load_dino, dino_source(settings.model.name)), photos)
        case "dinov2":
            return Dinov2Reward(load(load_dinov2, DINOV2), photos)
        case "clip-image":
            return ClipImageReward(load(load_clip, clip_source(settings.model.name)).image, photos)
        case "clip-text":
            return ClipTextReward(load(load_clip, clip_source(settings.model.name)))
        case "ssim":
            return SsimReward()
        case "lpips":
            return LpipsReward(load_lpips(device))
        case "dreamsim":
            return DreamsimReward(load_dreamsim(device))
        case _ if name.startswith("embedding:"):
            return EmbeddingReward(load(load_embedding, name.removeprefix("embedding:")), photos, name)
        case _ if ":" in name:
            return CallableReward(load_callable(name), name)
        case _:
            raise _unknown(name)


def _unknown(name: str) -> LookforwardError:
    return LookforwardError(
        f"There is no reward {name!r}. There are: {', '.join(NAMES)}, embedding:MODEL, and module:function for one of "
        "your own."
    )


def _build_decoder(settings: Settings, pipeline: StableDiffusionPipeline) -> Callable[[Tensor], Tensor]:
    if not settings.objective.decoder:
        return lambda x_0: decode(pipeline.vae, x_0)
    try:
        tiny: Any = AutoencoderTiny.from_pretrained(settings.objective.decoder, torch_dtype=torch.float32)
    except Exception as error:
        raise explain_load_error(settings.objective.decoder, error) from error
    tiny = tiny.to(pipeline.device).eval().requires_grad_(False)
    return lambda x_0: decode_tiny(tiny, x_0)
