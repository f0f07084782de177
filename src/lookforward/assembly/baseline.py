"""The step of the baseline that a config names."""

import copy

from lookforward.baselines.dpok import Dpok
from lookforward.baselines.draft import Draft
from lookforward.baselines.sampler import Sampler
from lookforward.baselines.step import BaselineStep
from lookforward.config.settings import Config
from lookforward.models.policy import DiffusionPolicy


def build_baseline(config: Config, policy: DiffusionPolicy) -> BaselineStep | None:
    """policy: still untouched; DPOK keeps a frozen copy of its denoiser. None for the paper's own method."""
    match config.method:
        case "dpg":
            return None
        case "draft":
            sampler = Sampler(config.chain_steps, config.chain_guidance)
            return BaselineStep(Draft(sampler, config.draft_last, config.draft_noises), config.batch)
        case "dpok":
            untouched = copy.copy(policy)
            untouched.denoiser = copy.deepcopy(policy.denoiser).requires_grad_(False)
            method = Dpok(
                untouched.act,
                Sampler(config.chain_steps, config.chain_guidance, eta=1.0),
                updates=config.dpok_updates,
                pairs=config.dpok_pairs,
                micro_batch=config.dpok_at_once,
                reward_weight=config.dpok_reward_weight,
                kl_weight=config.dpok_kl,
                ratio_clip=config.dpok_clip,
            )
            return BaselineStep(method, config.dpok_trajectories)
