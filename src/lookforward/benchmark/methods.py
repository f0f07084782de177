"""Recipes × adapters as the methods of a grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.environment import check_reward
from lookforward.assembly.unused import shown, unread_settings
from lookforward.benchmark.plan import UNTOUCHED, method_label
from lookforward.bundle import TOYBOX
from lookforward.config.recipe import load_settings, written_settings
from lookforward.config.settings import Settings
from lookforward.errors import LookforwardError

_NO_RUN = "a grid keeps the scores and images of each cell, and no run folder"
_SHARED = "the methods of a grid share a model that is loaded once, in single precision"
IGNORED = {
    **dict.fromkeys(
        (
            "evaluation.sample_every", "evaluation.prompts", "evaluation.watermark", "run.checkpoint_every",
            "run.export_every", "run.report_to",
        ),
        _NO_RUN,
    ),
    "model.weights": _SHARED,
    "model.offload": _SHARED,
}  # fmt: skip
"""Settings of a training run that the cells of a grid do not read, and why."""

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
    overrides = {"model.name": model, **overrides} if model != TOYBOX else overrides
    # Always by the same recipe, of which only the sampler matters: other recipes may join a folder later
    methods: Methods = {UNTOUCHED: ("dreambooth", dict(overrides))}
    pairs = [(recipe, adapter) for adapter in adapters for recipe in recipes if "@" not in recipe]
    for recipe, adapter in pairs + [(r.rpartition("@")[0], r.rpartition("@")[2]) for r in recipes if "@" in r]:
        given = dict(overrides) if adapter == "full" else {**overrides, "adapter.name": adapter}
        settings = load_settings(recipe, given)
        require_shared(settings, model)
        build_adapter(settings, torch.Generator())  # reports what is wrong before anything runs
        if settings.follows_reward:
            check_reward(settings)
        name = Path(recipe).name.removesuffix(".toml") + ("" if adapter == "full" else f"@{adapter}")
        if name in methods or method_label(name) in map(method_label, methods):
            taken = name if name in methods else method_label(name)
            text = f"Two methods would be called {taken}: rename a recipe file, or give it once."
            raise LookforwardError(text, code="method-name-twice")
        methods[name] = (recipe, given)
    return methods


def unread_notes(methods: Mapping[str, tuple[str, Mapping[str, Any]]], given: Mapping[str, Any]) -> list[str]:
    """Notes of settings that no method of a grid reads, and of those of a user's own recipe that it does not read.

    given: what the user gave for all methods, by dotted names.
    """
    notes: list[str] = []
    trained = {name: method for name, method in methods.items() if name != UNTOUCHED}
    unread = {name: _unread(*method) for name, method in trained.items()}
    for setting in given:
        of_each = [[note for note in some if note.startswith(f"{setting} = ")] for some in unread.values()]
        if of_each and all(of_each):
            notes.append(f"no method reads a setting: {of_each[0][0]}")
    for name, some in unread.items():
        notes += [f"{name}: {note}" for note in some if note.split(" = ")[0] not in given]
    return notes


def _unread(recipe: str, overrides: Mapping[str, Any]) -> list[str]:
    """A note on each setting that the user wrote and a method's cells do not read."""
    settings, written = load_settings(recipe, overrides), written_settings(recipe, overrides)
    notes = unread_settings(settings, {name: value for name, value in written.items() if name not in IGNORED})
    return notes + [
        f"{name} = {shown(settings.flat()[name])} changes nothing: {reason}"
        for name, reason in IGNORED.items()
        if name in written
    ]


def require_shared(settings: Settings, model: str = TOYBOX) -> None:
    """Refuse settings that all methods of a grid share: the model is loaded once, on the accelerators there are.

    Raises:
        LookforwardError: the settings name another model, or a device.
    """
    if settings.model.name != model:
        raise LookforwardError(
            f"The settings say model.name = {settings.model.name!r}, but all methods are compared on {model}: leave it "
            "out, and out of recipes. `lookforward benchmark --model` chooses another model.",
            code="grid-model",
        )
    if settings.model.device != "auto":
        raise LookforwardError(
            f"The settings say model.device = {settings.model.device!r}, but a grid uses all accelerators: leave it "
            "out, and out of recipes. CUDA_VISIBLE_DEVICES chooses some of NVIDIA's; empty, it chooses none.",
            code="grid-device",
        )
