"""Textual Inversion (Gal et al., 2023): a new word is all that is learned; the model stays as it is."""

from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline
from torch import nn

from lookforward.adapters.words import Word, add_words, forget_words, teach_words, word_table, write_words
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class TextualInversionAdapter:
    """The token embeddings of new words: 768 numbers for each vector in Stable Diffusion 1.4.

    The export is `learned_embeds.safetensors`, which `pipeline.load_textual_inversion(folder)` reads; with several
    words, the second is in `learned_embeds_2.safetensors`, and so on.

    Raises:
        LookforwardError: when attached, see `teach_words`.
    """

    words: tuple[Word, ...]

    @property
    def changes_prompts(self) -> bool:
        return True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        policy.unet.requires_grad_(False)
        policy.text_encoder.requires_grad_(False)
        return teach_words(policy.pipeline, self.words).named_rows()

    def detach(self, policy: DiffusionPolicy) -> None:
        forget_words(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_words(word_table(policy.pipeline), folder)


def load_textual_inversion(pipeline: StableDiffusionPipeline, folder: Path, strength: float = 1.0) -> None:
    """Put the words of an export into a pipeline.

    strength: 1 is the word as it was learned, 0 the one that it began with.

    Raises:
        LookforwardError: see `add_words`.
    """
    add_words(pipeline, folder, strength)
