"""The method that a config compares with."""

import copy

from lookforward.algorithm.trainer import Comparison
from lookforward.baselines.chain import Chain
from lookforward.baselines.dpok import Dpok
from lookforward.baselines.draft import Draft
from lookforward.config.settings import Settings
from lookforward.models.policy import DiffusionPolicy


def build_comparison(settings: Settings, policy: DiffusionPolicy) -> Comparison | None:
    """policy: still untouched; DPOK keeps a frozen copy of its denoiser to stay near to. None for `dpg`."""
    match settings.baseline.name:
        case "none":
            return None
        case "draft":
            chain = Chain(settings.baseline.sampler_steps, settings.baseline.guidance)
            return Comparison(
                Draft(chain, settings.baseline.draft_last, settings.baseline.draft_noises),
                settings.run.batch_size,
                policy.act,
            )
        case "dpok":
            untouched = copy.copy(policy)
            untouched.denoiser = copy.deepcopy(policy.denoiser).requires_grad_(False)
            method = Dpok(
                Chain(settings.baseline.sampler_steps, settings.baseline.guidance, eta=1.0),
                updates=settings.baseline.dpok_updates,
                pairs=settings.baseline.dpok_pairs,
                at_once=settings.baseline.dpok_micro_batch,
                reward_weight=settings.baseline.dpok_reward_weight,
                kl_weight=settings.baseline.dpok_kl,
                ratio_clip=settings.baseline.dpok_clip,
            )
            return Comparison(method, settings.baseline.dpok_trajectories, untouched.act)
