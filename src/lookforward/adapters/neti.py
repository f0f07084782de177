"""NeTI (Alaluf et al. 2023, arXiv 2305.15391): a small network tells the new word's embedding, at each timestep
and for each cross-attention layer, and what is added to it behind the text encoder.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from lookforward.adapters.concept_words import adopt, prepare_word, read_word, release, write_word
from lookforward.errors import LookforwardError
from lookforward.models.families.concept_pipeline import SpaceTimeWords, draw_frequencies
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class NetiAdapter:
    """The network's weights: 235,776 in Stable Diffusion 1.4 at width 128. The model is frozen.

    identifier: the new word, "<sks>". initial_word: whose embedding it begins as, and whose length it keeps.
    width: of the two hidden layers. bypass: α, the share of what is added behind the text encoder; 0 is none.
    dropout: how likely nested dropout cuts the second hidden layer short, to a length that is drawn anew.
    generator: on the CPU, for the first weights, the waves' frequencies and nested dropout.

    The export is a file of weights and a custom pipeline for diffusers.

    Raises:
        LookforwardError: a number is out of range.
    """

    identifier: str
    initial_word: str
    width: int
    bypass: float
    dropout: float
    generator: torch.Generator

    def __post_init__(self) -> None:
        if self.width < 1:
            raise LookforwardError(f"neti_width = {self.width} must be at least 1.")
        if not self.bypass >= 0:
            raise LookforwardError(f"neti_bypass = {self.bypass} must not be negative.")
        if not 0 <= self.dropout <= 1:
            raise LookforwardError(f"neti_dropout = {self.dropout} must lie in [0, 1].")

    @property
    def changes_prompts(self) -> bool:
        return False  # they are encoded within `act`, which knows the timestep; see `ConceptPipeline`

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        """Raises LookforwardError where the identifier is no new word or the initial word is unknown."""
        initial, layers = prepare_word(policy, self.identifier, self.initial_word)
        frequencies = draw_frequencies(self.generator)
        # Made on the CPU, where the generator is
        concept = SpaceTimeWords(initial.cpu(), frequencies, layers, self.width, self.bypass, self.generator)
        concept.draw_keep = self.draw_keep if self.dropout > 0 else None
        return adopt(policy.pipeline, self.identifier, concept)

    def draw_keep(self, b: int, n: int) -> Tensor:
        """Nested dropout (Rippel et al. 2014): how many hidden units count, (b, n) in [1, width].

        All of them, or with probability `dropout` a number drawn evenly: the first ones learn what matters most.
        """
        cut = torch.rand(b, n, generator=self.generator) < self.dropout
        short = torch.randint(1, self.width + 1, (b, n), generator=self.generator)
        return torch.where(cut, short, self.width)

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_word(policy, folder)


def load_neti(pipeline: StableDiffusionPipeline, folder: Path, strength: float = 1.0) -> None:
    """Put an exported word into a pipeline, in place; it becomes a `ConceptPipeline`.

    strength: 0 is the initial word without bypass, 1 the learned one.

    Raises:
        LookforwardError: the folder holds no such export, or it does not fit the pipeline.
    """
    read_word(pipeline, folder, SpaceTimeWords.kind, strength)
