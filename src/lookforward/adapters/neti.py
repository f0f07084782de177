"""NeTI (Alaluf et al. 2023, arXiv 2305.15391): a small network predicts the new word's embedding.

At each timestep and for each cross-attention layer, and what is added to it behind the text encoder: 235,776 weights in
Stable Diffusion 1.4 at width 128. The model is frozen.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookforward.adapters.layered_words import LayeredWordAdapter, read_word
from lookforward.errors import LookforwardError
from lookforward.models.families.layered_words.embeddings import SpaceTimeWords, draw_frequencies


@dataclass(frozen=True)
class NetiNetwork:
    """Makes the network from timestep and layer to the word.

    width: of the two hidden layers. bypass: α, the share of what is added behind the text encoder; 0 is none.
    dropout: how likely nested dropout cuts the second hidden layer short, to a random length.
    generator: on the CPU, for the first weights, the waves' frequencies and nested dropout.

    Raises:
        LookforwardError: a number is out of range.
    """

    width: int
    bypass: float
    dropout: float
    generator: torch.Generator

    def __post_init__(self) -> None:
        if self.width < 1:
            raise LookforwardError(f"adapter.neti_width = {self.width} must be at least 1.", code="setting-range")
        if not self.bypass >= 0:
            raise LookforwardError(f"adapter.neti_bypass = {self.bypass} must be at least 0.", code="setting-range")
        if not 0 <= self.dropout <= 1:
            raise LookforwardError(f"adapter.neti_dropout = {self.dropout} must be in [0, 1].", code="setting-range")

    def __call__(self, initial: Tensor, layers: int) -> SpaceTimeWords:
        """initial: (d,), the vector that the word begins as, and whose length it keeps."""
        frequencies = draw_frequencies(self.generator)
        # Made on the CPU, where the generator is
        words = SpaceTimeWords(initial.cpu(), frequencies, layers, self.width, self.bypass, self.generator)
        words.draw_keep = self.draw_keep if self.dropout > 0 else None
        return words

    def draw_keep(self, b: int, n: int) -> Tensor:
        """Nested dropout (Rippel et al. 2014): how many hidden units count, (b, n) in [1, width].

        All of them, or with probability `dropout` a number drawn evenly: the first ones learn what matters most.
        """
        cut = torch.rand(b, n, generator=self.generator) < self.dropout
        short = torch.randint(1, self.width + 1, (b, n), generator=self.generator)
        return torch.where(cut, short, self.width)


def build_neti(settings: Any, generator: torch.Generator) -> LayeredWordAdapter:
    """The adapter of a run's settings."""
    chosen, subject = settings.adapter, settings.subject
    network = NetiNetwork(chosen.neti_width, chosen.neti_bypass, chosen.neti_dropout, generator)
    initial_word = chosen.initial_word or subject.class_noun
    return LayeredWordAdapter(subject.identifier, initial_word, network, changes_prompts=False)


def load_neti(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `read_word`."""
    read_word(pipeline, folder, SpaceTimeWords.kind, strength)
