"""The adapter that a config names."""

import torch

from lookforward.adapters.custom_diffusion import CustomDiffusionAdapter
from lookforward.adapters.full import FullAdapter
from lookforward.adapters.lora import LoraAdapter
from lookforward.adapters.neti import NetiAdapter
from lookforward.adapters.p_plus import PPlusAdapter
from lookforward.adapters.textual_inversion import TextualInversionAdapter
from lookforward.adapters.words import Word
from lookforward.config.settings import Settings
from lookforward.core.protocols import Adapter
from lookforward.data.subjects import subjects_of
from lookforward.errors import LookforwardError


def build_adapter(settings: Settings, generator: torch.Generator) -> Adapter:
    """generator: where an adapter that trains by chance draws it from; saved with a checkpoint."""
    match settings.adapter.name:
        case "full":
            return FullAdapter(settings.adapter.train_text_encoder)
        case "lora" | "dora":
            return LoraAdapter(
                settings.adapter.rank,
                settings.adapter.alpha,
                settings.adapter.train_text_encoder,
                settings.adapter.name == "dora",
                generator,
            )
        case "textual-inversion":
            _refuse_dpok(settings)
            return TextualInversionAdapter(_words(settings, settings.adapter.vectors))
        case "custom-diffusion":
            _refuse_dpok(settings)
            return CustomDiffusionAdapter(_words(settings))
        case "p-plus":
            _refuse_dpok(settings)
            _refuse_several(settings)
            return PPlusAdapter(settings.subject.identifier, _initial_word(settings))
        case "neti":
            _refuse_dpok(settings)
            _refuse_several(settings)
            width, bypass, dropout = (
                settings.adapter.neti_width,
                settings.adapter.neti_bypass,
                settings.adapter.neti_dropout,
            )
            return NetiAdapter(settings.subject.identifier, _initial_word(settings), width, bypass, dropout, generator)
        case _:
            raise LookforwardError(f"adapter.name = {settings.adapter.name!r} is not there yet.")


def _initial_word(settings: Settings) -> str:
    return settings.adapter.initial_word or settings.subject.class_noun


def _words(settings: Settings, vectors: int = 1) -> tuple[Word, ...]:
    return tuple(Word(name, settings.adapter.initial_word or noun, vectors) for name, noun in subjects_of(settings))


def _refuse_several(settings: Settings) -> None:
    if settings.subject.others:
        raise LookforwardError(
            f"adapter {settings.adapter.name!r} learns one subject; take custom-diffusion, textual-inversion, lora or "
            "full."
        )


def _refuse_dpok(settings: Settings) -> None:
    if settings.baseline.name == "dpok":
        # It stays near to what the untouched UNet does with the same prompt, which here means nothing to that
        raise LookforwardError(
            f"baseline.name = 'dpok' cannot train adapter {settings.adapter.name!r}; take lora or full."
        )
