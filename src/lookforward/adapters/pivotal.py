"""Pivotal tuning: a learned word together with a LoRA on the denoiser.

The word finds the subject in the model's own vocabulary (Textual Inversion), and the LoRA changes the model around it:
the pivot and the tuning of Roich et al. (2022), trained at once, as diffusers' advanced scripts do.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lookforward.adapters.lora import LoraAdapter, load_lora, merge_lora
from lookforward.adapters.textual_inversion import load_words, write_words
from lookforward.adapters.words import Word, add_words, remove_words, word_tables, words_of
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class PivotalAdapter:
    """New words, and the low-rank changes of `LoraAdapter`. The export has the files of both.

    Raises:
        LookforwardError: when attached, see `add_words` and `find_layers`.
    """

    words: tuple[Word, ...]
    lora: LoraAdapter

    @property
    def changes_prompts(self) -> bool:
        return True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        parameters = self.lora.attach(policy)  # it freezes all else, so the words come after it
        return parameters | add_words(policy.pipeline, self.words).named_rows()

    def detach(self, policy: DiffusionPolicy) -> None:
        remove_words(policy.pipeline)
        self.lora.detach(policy)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        self.lora.export(policy, folder)
        write_words(word_tables(policy.pipeline), folder)


def build_pivotal(settings: Any, generator: torch.Generator) -> PivotalAdapter:
    """The adapter of a run's settings."""
    chosen = settings.adapter
    lora = LoraAdapter(chosen.rank, chosen.alpha, chosen.train_text_encoder, False, generator, chosen.layers)
    return PivotalAdapter(words_of(settings, chosen.vectors), lora)


def load_pivotal(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `load_words` and `load_lora`."""
    load_words(pipeline, folder, strength)
    load_lora(pipeline, folder, strength)


def merge_pivotal(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """The same into the pipeline's own weights."""
    load_words(pipeline, folder, strength)
    merge_lora(pipeline, folder, strength)
