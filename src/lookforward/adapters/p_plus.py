"""P+ (Voynov et al. 2023, arXiv 2303.09522): one embedding of the new word for each cross-attention layer."""

from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline
from torch import nn

from lookforward.adapters.concept_words import adopt, prepare_word, read_word, release, write_word
from lookforward.models.families.concept_pipeline import LayerWords
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class PPlusAdapter:
    """A vector of the text encoder's width for each layer: 16 × 768 in Stable Diffusion 1.4. The model is frozen.

    identifier: the new word, "<sks>". initial_word: whose embedding all vectors begin with.

    The export is a file of vectors and a custom pipeline for diffusers.
    """

    identifier: str
    initial_word: str

    @property
    def changes_prompts(self) -> bool:
        return True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        """Raises LookforwardError where the identifier is no new word or the initial word is unknown."""
        initial, layers = prepare_word(policy, self.identifier, self.initial_word)
        return adopt(policy.pipeline, self.identifier, LayerWords(initial.repeat(layers, 1), initial))

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_word(policy, folder)


def load_p_plus(pipeline: StableDiffusionPipeline, folder: Path, strength: float = 1.0) -> None:
    """Put an exported word into a pipeline, in place; it becomes a `ConceptPipeline`.

    strength: 0 is the initial word, 1 the learned one; between and beyond, along the line through both.

    Raises:
        LookforwardError: the folder holds no such export, or it does not fit the pipeline.
    """
    read_word(pipeline, folder, LayerWords.kind, strength)
