"""The layers that an adapter sits on: the family's own, or those that `adapter.layers` names."""

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lookforward.errors import LookforwardError
from lookforward.models.policy import DiffusionPolicy


def find_layers(policy: DiffusionPolicy, train_text_encoder: bool, patterns: str) -> dict[str, list[str]]:
    """For each component that is adapted the names of its layers, as peft's `target_modules` takes them.

    patterns: names or ends of names of linear layers, with * and ?, separated by commas: "attn2.to_k, attn2.to_v",
    "mid_block.*"; the family's own layers if empty.

    Raises:
        LookforwardError: they fit no linear layer.
    """
    targets = policy.family.lora_targets
    parts = policy.components if train_text_encoder else {policy.family.denoiser: policy.denoiser}
    parts = {name: module for name, module in parts.items() if name in targets}
    wanted = [word.strip() for word in patterns.split(",") if word.strip()]
    if not wanted:
        return {name: list(targets[name]) for name in parts}
    found = {name: _matching(module, wanted) for name, module in parts.items()}
    if not any(found.values()):
        example = next(name for name, layer in policy.denoiser.named_modules() if isinstance(layer, nn.Linear))
        raise LookforwardError(
            f"adapter.layers = {patterns!r} fits no linear layer of {' or '.join(parts)}: give names or ends of names, "
            f"such as {', '.join(targets[policy.family.denoiser])} or {example}, with * for any letters.",
            code="adapter-layers",
        )
    return {name: layers for name, layers in found.items() if layers}


def _matching(module: Any, wanted: list[str]) -> list[str]:
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
        and any(fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}") for pattern in wanted)
    ]
