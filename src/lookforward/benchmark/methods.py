"""Recipes × adapters as the methods of a grid, and what they are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lookforward.benchmark.plan import UNTOUCHED
from lookforward.build.adapter import build_adapter
from lookforward.errors import LookforwardError
from lookforward.recipe import load_config

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
    recipes: Sequence[str], adapters: Sequence[str], overrides: Mapping[str, Any]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """The untouched model, then every recipe with every adapter: name to (recipe, overrides).

    recipes: names or files; NAME@ADAPTER has that adapter alone.

    Raises:
        LookforwardError: a recipe, an adapter or a setting is wrong, or two recipes have one name.
    """
    # Always by the same recipe, of which only the sampler counts: other recipes may join a folder later
    methods: dict[str, tuple[str, dict[str, Any]]] = {UNTOUCHED: ("dreambooth", dict(overrides))}
    pairs = [(recipe, adapter) for adapter in adapters for recipe in recipes if "@" not in recipe]
    for recipe, adapter in pairs + [_split(recipe) for recipe in recipes if "@" in recipe]:
        given = dict(overrides) if adapter == "full" else {**overrides, "adapter": adapter}
        build_adapter(load_config(recipe, given), torch.Generator())  # what is wrong is told before anything runs
        name = Path(recipe).name.removesuffix(".toml") + ("" if adapter == "full" else f"@{adapter}")
        if name in methods:
            raise LookforwardError(f"Two methods would be called {name}: rename a recipe file, or give it once.")
        methods[name] = (recipe, given)
    return methods


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
