"""Which components of the pipeline may be quantised, unloaded or offloaded, as the settings say."""

from typing import Any

import torch

from lookforward.adapters import ADAPTERS
from lookforward.config.settings import Settings
from lookforward.core.protocols import Family
from lookforward.core.specs import find_spec
from lookforward.errors import LookforwardError
from lookforward.models.families import family_named
from lookforward.models.load_pipeline import build_pipeline, find_device
from lookforward.models.low_precision import LowPrecision
from lookforward.models.memory import QUANTISED
from lookforward.models.placement import offload_blocks
from lookforward.models.policy import DiffusionPolicy


def build_run_pipeline(settings: Settings) -> Any:
    """The pipeline of a run: frozen parts in the format that is asked for, the denoiser offloaded if it is to be.

    Raises:
        LookforwardError: it cannot be loaded, or the settings ask for something that the adapter or machine cannot do.
    """
    chosen = settings.model
    low, device = low_precision(settings), find_device(chosen.device)
    if not chosen.offload:
        return build_pipeline(chosen.name, chosen.device, low, chosen.revision)
    family = _family(settings)
    if family.denoiser not in frozen_parts(settings, family):
        raise LookforwardError(
            f"model.offload keeps the denoiser's weights off the device, and adapter {settings.adapter.name!r} trains "
            "them: take lora, or leave model.offload out.",
            code="settings-conflict",
        )
    pipeline = build_pipeline(chosen.name, "cpu", low, chosen.revision)
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and name != family.denoiser:
            part.to(device)
    offload_blocks(getattr(pipeline, family.denoiser), torch.device(device))
    return pipeline


def low_precision(settings: Settings) -> LowPrecision | None:
    """What is stored in less than single precision; None: nothing.

    Raises:
        LookforwardError: nothing is frozen, or a package or a GPU is missing that the format needs.
    """
    weights, family = settings.model.weights, _family(settings)
    if weights == "fp32":
        return None
    parts = frozen_parts(settings, family)
    if not parts:
        raise LookforwardError(
            f"model.weights = {weights!r} is for frozen weights, and adapter {settings.adapter.name!r} trains all: "
            "they stay in single precision: take lora, or set adapter.train_text_encoder to false.",
            code="settings-conflict",
        )
    if weights in QUANTISED and find_spec(ADAPTERS, settings.adapter.name, "adapter").is_whole_model:
        raise LookforwardError(
            f"model.weights = {weights!r} would leave the text encoder quantised in the pipeline that adapter "
            f"{settings.adapter.name!r} exports: take model.weights = bf16, or lora.",
            code="settings-conflict",
        )
    return LowPrecision(weights, settings.model.precision, parts)


def frozen_parts(settings: Settings, family: Family) -> frozenset[str]:
    """Of denoiser and text encoders those whose own weights are not trained, by the pipeline's names."""
    spec = find_spec(ADAPTERS, settings.adapter.name, "adapter")
    encoders = "text encoders" in spec.frozen or not (settings.adapter.train_text_encoder or spec.learns_word)
    denoiser = {family.denoiser} if "denoiser" in spec.frozen else set[str]()
    wordless = set(family.text_encoders) - set(family.word_files) if spec.learns_word else set[str]()
    return frozenset(denoiser | set(family.text_encoders if encoders else wordless))


def resting_parts(settings: Settings, policy: DiffusionPolicy, changes_prompts: bool, needs_image: bool) -> list[str]:
    """What nothing needs between two steps: text encoders that are not trained, and the autoencoder if no reward looks
    at images, or sees them by another one.
    """
    if not settings.model.unload:
        return []
    seen = needs_image and not settings.objective.decoder
    drawn = settings.baseline.name != "none"  # it draws images within its steps
    return [*(() if changes_prompts else policy.text_encoders), *(() if seen or drawn else ("vae",))]


def _family(settings: Settings) -> Family:
    return family_named(settings.model.name, settings.model.revision)
