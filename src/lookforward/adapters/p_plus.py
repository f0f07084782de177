"""P+ (Voynov et al. 2023, arXiv 2303.09522): one embedding of the new word for each cross-attention layer.

A vector of the text encoder's width for each layer: 16 × 768 in Stable Diffusion 1.4. The model is frozen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lookforward.adapters.layered_words import attach_word, read_word, release, write_word
from lookforward.models.families.layered_words.embeddings import LayerWords
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class PPlusAdapter:
    """A vector for each layer.

    identifier: the new word, "<sks>". initial_word: whose embedding all vectors begin with.

    The export is a file of vectors and a custom pipeline for diffusers.
    """

    identifier: str
    initial_word: str

    @property
    def changes_prompts(self) -> bool:
        return True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        """Raises LookforwardError if the identifier is no new word or the initial word is unknown."""
        return attach_word(policy, self.identifier, self.initial_word, lambda v, n: LayerWords(v.repeat(n, 1), v))

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_word(policy, folder)


def build_p_plus(settings: Any, _: torch.Generator) -> PPlusAdapter:
    """The adapter of a run's settings."""
    return PPlusAdapter(settings.subject.identifier, settings.adapter.initial_word or settings.subject.class_noun)


def load_p_plus(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `read_word`."""
    read_word(pipeline, folder, LayerWords.kind, strength)
