"""Recipes × adapters as the methods of a grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.environment import check_reward
from lookforward.benchmark.plan import UNTOUCHED, method_label
from lookforward.config.recipe import load_config
from lookforward.config.settings import TOYBOX, Config
from lookforward.errors import LookforwardError

Methods = dict[str, tuple[str, dict[str, Any]]]
"""Name to (recipe, overrides)."""


def grid_methods(
    recipes: Sequence[str], adapters: Sequence[str], overrides: Mapping[str, Any], model: str = TOYBOX
) -> Methods:
    """The untouched model, then every recipe with every adapter.

    recipes: names or files; NAME@ADAPTER stands for the recipe with that adapter alone.

    Raises:
        LookforwardError: a recipe, an adapter or a setting is wrong, is of another model, or two recipes have one name.
    """
    overrides = {"model": model, **overrides} if model != TOYBOX else overrides
    # Always by the same recipe, of which only the sampler matters: other recipes may join a folder later
    methods: Methods = {UNTOUCHED: ("dreambooth", dict(overrides))}
    pairs = [(recipe, adapter) for adapter in adapters for recipe in recipes if "@" not in recipe]
    for recipe, adapter in pairs + [(r.rpartition("@")[0], r.rpartition("@")[2]) for r in recipes if "@" in r]:
        given = dict(overrides) if adapter == "full" else {**overrides, "adapter": adapter}
        config = load_config(recipe, given)
        require_shared(config, model)
        build_adapter(config, torch.Generator())  # reports what is wrong before anything runs
        if config.follows_reward:
            check_reward(config)
        name = Path(recipe).name.removesuffix(".toml") + ("" if adapter == "full" else f"@{adapter}")
        if name in methods or method_label(name) in map(method_label, methods):
            taken = name if name in methods else method_label(name)
            text = f"Two methods would be called {taken}: rename a recipe file, or give it once."
            raise LookforwardError(text, code="method-name-twice")
        methods[name] = (recipe, given)
    return methods


def require_shared(config: Config, model: str = TOYBOX) -> None:
    """Refuse settings that all methods of a grid share: the model is loaded once, on the accelerators there are.

    Raises:
        LookforwardError: the settings name another model, or a device.
    """
    if config.model != model:
        raise LookforwardError(
            f"The settings say model = {config.model!r}, but all methods are compared on {model}: leave it out of --set"
            " and of recipes. `lookforward benchmark --model` chooses another model.",
            code="grid-model",
        )
    if config.device != "auto":
        raise LookforwardError(
            f"The settings say device = {config.device!r}, but a grid uses all accelerators: leave it out of --set and"
            " of recipes. CUDA_VISIBLE_DEVICES chooses some of NVIDIA's; empty, it chooses none.",
            code="grid-device",
        )
