"""Recipes × adapters as the methods of a grid, and what they are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.environment import check_reward
from lookforward.benchmark.plan import UNTOUCHED
from lookforward.config.recipe import load_settings
from lookforward.config.settings import TOYBOX, Settings
from lookforward.errors import LookforwardError

RECIPE_LABELS = {
    "dreambooth": "DreamBooth",
    "released": "released code",
    "look-forward": "Look Forward",
    "dino": "DINO reward",
    "look-forward+dino": "Look Forward + DINO reward",
    "text": "Look Forward + CLIP-T reward",
    "best": "best",
    "draft": "DRaFT",
    "dpok": "DPOK",
}
ADAPTER_LABELS = {
    "lora": "LoRA",
    "dora": "DoRA",
    "custom-diffusion": "Custom Diffusion",
    "textual-inversion": "Textual Inversion",
    "p-plus": "P+",
    "neti": "NeTI",
}


def grid_methods(
    recipes: Sequence[str], adapters: Sequence[str], overrides: Mapping[str, Any], model: str = TOYBOX
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The untouched model, then every recipe with every adapter: name to (recipe, overrides).

    recipes: names or files; NAME@ADAPTER has that adapter alone.

    Raises:
        LookforwardError: a recipe, an adapter or a setting is wrong, is of another model, or two recipes have one name.
    """
    overrides = {"model.name": model, **overrides} if model != TOYBOX else overrides
    # Always by the same recipe, of which only the sampler counts: other recipes may join a folder later
    methods: dict[str, tuple[str, dict[str, Any]]] = {UNTOUCHED: ("dreambooth", dict(overrides))}
    pairs = [(recipe, adapter) for adapter in adapters for recipe in recipes if "@" not in recipe]
    for recipe, adapter in pairs + [_split(recipe) for recipe in recipes if "@" in recipe]:
        given = dict(overrides) if adapter == "full" else {**overrides, "adapter.name": adapter}
        settings = load_settings(recipe, given)
        require_shared(settings, model)
        build_adapter(settings, torch.Generator())  # what is wrong is told before anything runs
        if settings.follows_reward:
            check_reward(settings)
        name = Path(recipe).name.removesuffix(".toml") + ("" if adapter == "full" else f"@{adapter}")
        if name in methods or method_label(name) in map(method_label, methods):
            called = name if name in methods else method_label(name)
            raise LookforwardError(f"Two methods would be called {called}: rename a recipe file, or give it once.")
        methods[name] = (recipe, given)
    return methods


def require_shared(settings: Settings, model: str = TOYBOX) -> None:
    """Refuse settings of what all methods of a grid share: the model is loaded once, where there is room for it.

    Raises:
        LookforwardError: the settings name another model, or a device.
    """
    if settings.model.name != model:
        raise LookforwardError(
            f"The settings say model.name = {settings.model.name!r}, but all methods are compared on {model}: leave it "
            "out, and out of recipes. Another model is chosen by `lookforward benchmark --model`."
        )
    if settings.model.device != "auto":
        raise LookforwardError(
            f"The settings say model.device = {settings.model.device!r}, but a grid takes the accelerators that there "
            "are: leave it out, and out of recipes. CUDA_VISIBLE_DEVICES chooses some of NVIDIA's."
        )


def _split(method: str) -> tuple[str, str]:
    recipe, _, adapter = method.rpartition("@")
    return recipe, adapter


def method_label(method: str) -> str:
    """How people read a method: "look-forward@lora" is "Look Forward, LoRA"."""
    if method == UNTOUCHED:
        return "untouched model"
    recipe, _, adapter = method.partition("@")
    label = RECIPE_LABELS.get(recipe, recipe)
    return f"{label}, {ADAPTER_LABELS.get(adapter, adapter)}" if adapter else label
