"""Settings as files record them: of this version, and under the names of version 0.1."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lookforward.config.reading import structure
from lookforward.config.settings import FIELDS, Settings

# Settings whose name of version 0.1 is not the last part of today's; "critic_" began those of the critic
_RENAMED = {
    "adam_beta1": "optimizer.beta1", "adam_beta2": "optimizer.beta2", "adapter": "adapter.name",
    "batch": "run.batch_size", "chain_guidance": "baseline.guidance", "chain_steps": "baseline.sampler_steps",
    "critic": "critic.name", "dpok_at_once": "baseline.dpok_micro_batch", "guidance": "evaluation.guidance",
    "learning_rate": "optimizer.learning_rate", "lora_alpha": "adapter.alpha", "lora_rank": "adapter.rank",
    "max_grad_norm": "optimizer.max_grad_norm", "method": "baseline.name", "model": "model.name",
    "noise_weight": "objective.reconstruction_weight", "prior_images": "data.class_images",
    "prior_steps": "data.class_image_steps", "rate_decay": "optimizer.decay", "reward": "objective.reward",
    "route": "objective.reward_gradient", "sample_steps": "evaluation.sampler_steps",
    "slow_critic": "critic.target_momentum", "steps": "run.steps", "word_vectors": "adapter.vectors",
}  # fmt: skip
_OLD_NAMES = (
    {name.partition(".")[2]: name for name in FIELDS}
    | {name.replace(".", "_"): name for name in FIELDS if name.startswith("critic.")}
    | _RENAMED
)
_OLD_VALUES = {("baseline.name", "dpg"): "none"}


def known_settings(recorded: Mapping[str, Any]) -> Settings:
    """The settings that a file recorded, with defaults for those it lacks, without those that no longer exist."""
    values = {}
    for name, value in recorded.items():
        new = name if name in FIELDS else _OLD_NAMES.get(name)
        if new is not None:
            values[new] = _OLD_VALUES.get((new, value), value) if isinstance(value, str) else value
    return structure(values, "a cell")


def full_settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """All that a cell was run with, defaults included, but for what depends on the machine."""
    values = known_settings(recorded["config"]).flat()
    return {**recorded, "config": {name: v for name, v in values.items() if not FIELDS[name].spec.machine_only}}


def other_than_default(settings: Settings) -> dict[str, Any]:
    """The settings of a method that are not the defaults."""
    return {name: value for name, value in settings.changed().items() if not FIELDS[name].spec.of_cell}


def settings_hash(settings: Settings) -> str:
    """A short hash of a method's settings: the same for all subjects and seeds."""
    values = {name: value for name, value in settings.flat().items() if not FIELDS[name].spec.of_cell}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]
