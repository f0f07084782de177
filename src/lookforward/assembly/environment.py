"""The reward that a run's settings name, and the environment that gives it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import Tensor

from lookforward.algorithm.environment import Environment
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.assembly.evaluators import encoder_sources
from lookforward.config.settings import Settings
from lookforward.core.protocols import Reward
from lookforward.core.specs import Resources, RewardSpec, find_spec
from lookforward.errors import LookforwardError
from lookforward.models.encoders import Encoders
from lookforward.models.encoders.metadata import is_evaluation_only
from lookforward.models.encoders.perceptual import require_package
from lookforward.models.latents import decode, decode_tiny
from lookforward.models.weight_files import explain_load_error
from lookforward.rewards import REWARDS
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.rewards.checked import CheckedReward
from lookforward.rewards.per_subject import PerSubjectReward
from lookforward.rewards.terms import parse_terms
from lookforward.rewards.weighted import WeightedSum


def build_environment(
    settings: Settings, pipeline: DiffusionPipeline, photos: Sequence[Tensor], processes: Processes = ALONE
) -> Environment:
    """photos: of each subject its reference photos (k, 3, h, w) in [0, 1] on the device that is trained on."""
    encoders = Encoders(encoder_sources(settings.model.name), photos[0].device)
    terms = parse_terms(settings.objective.reward)
    reward = WeightedSum([(weight, CheckedReward(build_reward(name, encoders, photos))) for weight, name in terms])
    decoder = _build_decoder(settings, pipeline) if reward.needs_image else None
    return Environment(reward, settings.objective.transition, settings.objective.stride, decoder, processes)


def build_reward(name: str, encoders: Encoders, photos: Sequence[Tensor]) -> Reward:
    """One reward by its name in docs/rewards.md. photos: as of `build_environment`.

    Raises:
        LookforwardError: there is none of that name, or what it needs cannot be loaded.
    """
    spec = find_reward(name)
    if spec is None:
        return CallableReward(load_callable(name), name)
    each = [spec.build(name, Resources(encoders, some)) for some in (photos if spec.per_subject else photos[:1])]
    return each[0] if len(each) == 1 else PerSubjectReward(each)


def find_reward(name: str) -> RewardSpec | None:
    """The spec of a reward as it is written, "dino" or "embedding:MODEL"; None for a function, "module:function".

    Raises:
        LookforwardError: there is no reward of that name.
    """
    head, colon, _ = name.partition(":")
    if colon:
        return next((spec for spec in REWARDS if spec.takes_argument and spec.name == head), None)
    others = [spec.written for spec in REWARDS if spec.takes_argument]
    plain = [spec for spec in REWARDS if not spec.takes_argument]
    return find_spec(plain, name, "reward", f", {', '.join(others)}, and module:function for one of your own")


def check_reward(settings: Settings) -> None:
    """Find what is wrong with the reward before anything is loaded or drawn.

    Raises:
        LookforwardError: it is not a sum of rewards, or one of them is not known, lacks its package, is for evaluation
            only, or gives no gradient where one is needed.
    """
    for _, name in parse_terms(settings.objective.reward):
        spec = find_reward(name)
        if spec is None:
            load_callable(name)
        elif spec.package:
            require_package(spec.package)
        elif spec.takes_argument and is_evaluation_only(Path(name.partition(":")[2])):
            raise LookforwardError(
                f"Reward {name!r}: this encoder is for evaluation only, so that no reward trains on every score. "
                "Use another, such as dino.",
                code="encoder-for-evaluation",
            )
        draft = settings.baseline.name == "draft"
        if (draft or settings.objective.reward_gradient == "direct") and not (spec and spec.differentiable):
            raise LookforwardError(
                f"Reward {name!r} gives no gradient, but {'DRaFT' if draft else 'objective.reward_gradient = direct'} "
                "needs one: train through a critic (objective.reward_gradient = critic, as recipe state-action does).",
                code="reward-not-differentiable",
            )


def load_decoder(name: str) -> Any:
    """The tiny autoencoder of a folder or a hub id.

    Raises:
        LookforwardError: there is none, or it cannot be loaded.
    """
    try:
        return AutoencoderTiny.from_pretrained(name, torch_dtype=torch.float32)
    except Exception as error:
        raise explain_load_error(name, error) from error


def _build_decoder(settings: Settings, pipeline: DiffusionPipeline) -> Callable[[Tensor], Tensor]:
    if not settings.objective.decoder:
        return lambda x_0: decode(pipeline, x_0)
    tiny = load_decoder(settings.objective.decoder)
    tiny = tiny.to(pipeline.device).eval().requires_grad_(False)
    return lambda x_0: decode_tiny(tiny, x_0)
