"""The adapter that a config names."""

import torch

from lookforward.adapters.custom_diffusion import CustomDiffusionAdapter
from lookforward.adapters.full import FullAdapter
from lookforward.adapters.lora import LoraAdapter
from lookforward.adapters.neti import NetiAdapter
from lookforward.adapters.p_plus import PPlusAdapter
from lookforward.adapters.textual_inversion import TextualInversionAdapter
from lookforward.adapters.words import Word
from lookforward.config.settings import Config
from lookforward.core.protocols import Adapter
from lookforward.data.subjects import subjects_of
from lookforward.errors import LookforwardError


def build_adapter(config: Config, generator: torch.Generator) -> Adapter:
    """generator: where an adapter that trains by chance draws it from; saved with a checkpoint."""
    match config.adapter:
        case "full":
            return FullAdapter(config.train_text_encoder)
        case "lora" | "dora":
            return LoraAdapter(
                config.lora_rank, config.lora_alpha, config.train_text_encoder, config.adapter == "dora", generator
            )
        case "textual-inversion":
            _refuse_dpok(config)
            return TextualInversionAdapter(_words(config, config.word_vectors))
        case "custom-diffusion":
            _refuse_dpok(config)
            return CustomDiffusionAdapter(_words(config))
        case "p-plus":
            _refuse_dpok(config)
            _refuse_several(config)
            return PPlusAdapter(config.identifier, _initial_word(config))
        case "neti":
            _refuse_dpok(config)
            _refuse_several(config)
            width, bypass, dropout = config.neti_width, config.neti_bypass, config.neti_dropout
            return NetiAdapter(config.identifier, _initial_word(config), width, bypass, dropout, generator)
        case _:
            raise LookforwardError(f"adapter = {config.adapter!r} is not there yet.")


def _initial_word(config: Config) -> str:
    return config.initial_word or config.class_noun


def _words(config: Config, vectors: int = 1) -> tuple[Word, ...]:
    return tuple(Word(name, config.initial_word or noun, vectors) for name, noun in subjects_of(config))


def _refuse_several(config: Config) -> None:
    if config.others:
        raise LookforwardError(
            f"adapter {config.adapter!r} learns one subject; take custom-diffusion, textual-inversion, lora or full."
        )


def _refuse_dpok(config: Config) -> None:
    if config.method == "dpok":
        # It stays near to what the untouched UNet does with the same prompt, which here means nothing to that
        raise LookforwardError(f"method = 'dpok' cannot train adapter {config.adapter!r}; take lora or full.")
