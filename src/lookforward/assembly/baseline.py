"""The step of the baseline that the settings name."""

import copy
from collections.abc import Collection

from lookforward.baselines.dpok import Dpok
from lookforward.baselines.draft import Draft
from lookforward.baselines.flow_grpo import flow_step, group_advantage
from lookforward.baselines.nft import Nft
from lookforward.baselines.sampler import Act, Sampler
from lookforward.baselines.step import BaselineStep
from lookforward.config.methods import COMPARED
from lookforward.config.settings import Settings
from lookforward.core.prediction import Prediction
from lookforward.errors import LookforwardError
from lookforward.models.policy import DiffusionPolicy


def check_baseline(settings: Settings, policy: DiffusionPolicy, prompts: Collection[str]) -> None:
    """Raise LookforwardError where the baseline fits neither the model nor the photos. prompts: of the photos."""
    name, data = settings.baseline.name, settings.data
    if name in COMPARED and (data.augment or data.describe or data.caption_model or len(prompts) > 1):
        raise LookforwardError(
            f"baseline.name = {name!r} compares samples of one prompt, so all photos need one: set data.captions, "
            "data.describe and data.augment to false, leave out data.caption_model, and give one subject.",
            code="settings-conflict",
        )
    if name == "flow-grpo" and policy.prediction is not Prediction.FLOW:
        raise LookforwardError(
            f"baseline.name = 'flow-grpo' steps along a flow, and {settings.model.name} predicts "
            f"{policy.prediction.value}: take a flow model, such as Stable Diffusion 3.5 or FLUX.2, or baseline.name = "
            "dpok, which does the same for a diffusion model.",
            code="baseline-flow",
        )


def build_baseline(settings: Settings, policy: DiffusionPolicy) -> BaselineStep | None:
    """policy: still untouched; a method with a KL term keeps a frozen copy of its denoiser. None for the paper's own
    method."""
    chosen, guide = settings.baseline, policy.family.guide
    sampler = Sampler(chosen.sampler_steps, chosen.guidance, guide=guide)
    match chosen.name:
        case "none":
            return None
        case "draft":
            return BaselineStep(Draft(sampler, chosen.draft_last, chosen.draft_noises), settings.run.batch_size)
        case "dpok":
            method = Dpok(
                Sampler(chosen.sampler_steps, chosen.guidance, 1.0, guide),
                updates=chosen.dpok_updates,
                pairs=chosen.dpok_pairs,
                micro_batch=chosen.dpok_micro_batch,
                reward_weight=chosen.dpok_reward_weight,
                kl_weight=chosen.dpok_kl,
                ratio_clip=chosen.dpok_clip,
                reference_act=_untouched_act(policy),
            )
        case "flow-grpo":
            method = Dpok(
                Sampler(chosen.sampler_steps, chosen.guidance, chosen.grpo_noise, guide),
                updates=chosen.dpok_updates,
                pairs=chosen.dpok_pairs,
                micro_batch=chosen.dpok_micro_batch,
                reward_weight=1.0,
                kl_weight=chosen.dpok_kl,
                ratio_clip=chosen.dpok_clip,
                reference_act=_untouched_act(policy),
                label="Flow-GRPO",
                take=flow_step,
                advantage=group_advantage,
            )
        case "diffusion-nft":
            method = Nft(
                sampler,
                updates=chosen.dpok_updates,
                pairs=chosen.dpok_pairs,
                micro_batch=chosen.dpok_micro_batch,
                beta=chosen.nft_beta,
                kl_weight=chosen.dpok_kl,
                kept=chosen.nft_kept,
                reference_act=_untouched_act(policy),
            )
    return BaselineStep(method, chosen.dpok_trajectories)


def _untouched_act(policy: DiffusionPolicy) -> Act:
    untouched = copy.copy(policy)
    untouched.denoiser = copy.deepcopy(policy.denoiser).requires_grad_(False)
    return untouched.act
