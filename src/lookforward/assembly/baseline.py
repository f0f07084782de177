"""The step of the baseline that the settings name."""

import copy

from lookforward.baselines.dpok import Dpok
from lookforward.baselines.draft import Draft
from lookforward.baselines.sampler import Sampler
from lookforward.baselines.step import BaselineStep
from lookforward.config.settings import Settings
from lookforward.models.policy import DiffusionPolicy


def build_baseline(settings: Settings, policy: DiffusionPolicy) -> BaselineStep | None:
    """policy: still untouched; DPOK keeps a frozen copy of its denoiser. None for the paper's own method."""
    chosen = settings.baseline
    match chosen.name:
        case "none":
            return None
        case "draft":
            sampler = Sampler(chosen.sampler_steps, chosen.guidance, guide=policy.family.guide)
            return BaselineStep(Draft(sampler, chosen.draft_last, chosen.draft_noises), settings.run.batch_size)
        case "dpok":
            untouched = copy.copy(policy)
            untouched.denoiser = copy.deepcopy(policy.denoiser).requires_grad_(False)
            method = Dpok(
                Sampler(chosen.sampler_steps, chosen.guidance, 1.0, policy.family.guide),
                updates=chosen.dpok_updates,
                pairs=chosen.dpok_pairs,
                micro_batch=chosen.dpok_micro_batch,
                reward_weight=chosen.dpok_reward_weight,
                kl_weight=chosen.dpok_kl,
                ratio_clip=chosen.dpok_clip,
                reference_act=untouched.act,
            )
            return BaselineStep(method, chosen.dpok_trajectories)
