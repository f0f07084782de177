"""P+ (Voynov et al. 2023, arXiv 2303.09522): one embedding of the new word for each cross-attention layer.

A vector of the text encoder's width for each layer: 16 × 768 in Stable Diffusion 1.4. The model is frozen.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookforward.adapters.layered_words import LayeredWordAdapter, read_word
from lookforward.models.families.layered_words.embeddings import LayerWords


def p_plus(identifier: str, initial_word: str) -> LayeredWordAdapter:
    """A vector for each layer, all of which begin as that of the initial word."""
    return LayeredWordAdapter(identifier, initial_word, _repeated, changes_prompts=True)


def _repeated(vector: Tensor, layers: int) -> LayerWords:
    return LayerWords(vector.repeat(layers, 1), vector)


def build_p_plus(settings: Any, _: torch.Generator) -> LayeredWordAdapter:
    """The adapter of a run's settings."""
    return p_plus(settings.subject.identifier, settings.adapter.initial_word or settings.subject.class_noun)


def load_p_plus(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `read_word`."""
    read_word(pipeline, folder, LayerWords.kind, strength)
