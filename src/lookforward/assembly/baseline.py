"""The method that a config compares with."""

import copy

from lookforward.algorithm.trainer import Comparison
from lookforward.baselines.chain import Chain
from lookforward.baselines.dpok import Dpok
from lookforward.baselines.draft import Draft
from lookforward.config.settings import Config
from lookforward.models.policy import DiffusionPolicy


def build_comparison(config: Config, policy: DiffusionPolicy) -> Comparison | None:
    """policy: still untouched; DPOK keeps a frozen copy of its denoiser to stay near to. None for `dpg`."""
    match config.method:
        case "dpg":
            return None
        case "draft":
            chain = Chain(config.chain_steps, config.chain_guidance)
            return Comparison(Draft(chain, config.draft_last, config.draft_noises), config.batch, policy.act)
        case "dpok":
            untouched = copy.copy(policy)
            untouched.denoiser = copy.deepcopy(policy.denoiser).requires_grad_(False)
            method = Dpok(
                Chain(config.chain_steps, config.chain_guidance, eta=1.0),
                updates=config.dpok_updates,
                pairs=config.dpok_pairs,
                at_once=config.dpok_at_once,
                reward_weight=config.dpok_reward_weight,
                kl_weight=config.dpok_kl,
                ratio_clip=config.dpok_clip,
            )
            return Comparison(method, config.dpok_trajectories, untouched.act)
