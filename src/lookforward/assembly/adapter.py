"""The adapter that a run's settings name."""

import torch

from lookforward.adapters import ADAPTERS
from lookforward.adapters.specs import DORA, LORA
from lookforward.config.methods import COMPARED
from lookforward.config.settings import Settings
from lookforward.core.protocols import Adapter, Family
from lookforward.core.specs import find_spec
from lookforward.errors import LookforwardError
from lookforward.models.encoders.perceptual import require_package


def build_adapter(settings: Settings, generator: torch.Generator, family: Family | None = None) -> Adapter:
    """generator: where an adapter that needs random numbers draws them; saved with a checkpoint. family: the model's.

    Raises:
        LookforwardError: there is no such adapter, its package is missing, or it does not fit the other settings or the
            model's family.
    """
    spec = find_spec(ADAPTERS, settings.adapter.name, "adapter")
    if spec.package:
        require_package(spec.package)
    if family is not None and (missing := spec.needs - family.capabilities):
        others = [one.name for one in ADAPTERS if not one.needs - family.capabilities]
        raise LookforwardError(
            f"Adapter {spec.name!r} needs {' and '.join(sorted(missing))}, which {family.label} does not have. Use "
            f"{', '.join(others[:-1])} or {others[-1]}.",
            code="adapter-family",
        )
    wanted = settings.adapter.train_text_encoder and spec in (LORA, DORA)
    if family is not None and wanted and not set(family.text_encoders) & set(family.lora_targets):
        raise LookforwardError(
            f"diffusers cannot load a text encoder LoRA for {family.label}: set adapter.train_text_encoder to false, "
            "or train all weights with adapter full.",
            code="adapter-text-encoder",
        )
    if settings.baseline.name in COMPARED and not spec.dpok:
        # They stay near to what the untouched denoiser does with the same prompt, and that does not know the word
        raise LookforwardError(
            f"baseline.name = {settings.baseline.name!r} cannot train adapter {spec.name!r}: use lora or full.",
            code="adapter-dpok",
        )
    if spec.learns_word and settings.objective.preservation == "preference" and settings.objective.prior_weight > 0:
        raise LookforwardError(
            f"objective.preservation = 'preference' draws images with the subject's name before it is learned, and "
            f"adapter {spec.name!r} makes a new word of it: use lora or full.",
            code="settings-conflict",
        )
    if settings.subject.others and not spec.several_subjects:
        raise LookforwardError(
            f"Adapter {spec.name!r} learns only one subject: use custom-diffusion, textual-inversion, lora or full.",
            code="adapter-subjects",
        )
    return spec.build(settings, generator)
