"""Words that look different to each cross-attention layer: what P+ and NeTI train, and how it is exported."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from lookforward.adapters.words import Word, check_words, initial_vector, text_parts
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.families import concept_pipeline
from lookforward.models.families.concept_pipeline import (
    WEIGHTS,
    ConceptPipeline,
    LayerWords,
    SpaceTimeWords,
    cross_attentions,
    draw_frequencies,
)
from lookforward.models.policy import DiffusionPolicy

CODE = "pipeline.py"  # the name by which diffusers finds it in a folder
_Words = LayerWords | SpaceTimeWords


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
        return _attach(policy, self.identifier, self.initial_word, lambda v, n: LayerWords(v.repeat(n, 1), v))

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_word(policy, folder)


@dataclass(frozen=True)
class NetiAdapter:
    """The weights of the network from timestep and layer to the word.

    identifier: the new word, "<sks>". initial_word: whose embedding it begins as, and whose length it keeps.
    width: of the two hidden layers. bypass: α, the share of what is added behind the text encoder; 0 is none.
    dropout: how likely nested dropout cuts the second hidden layer short, to a random length.
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
            raise LookforwardError(f"adapter.neti_width = {self.width} must be at least 1.", code="setting-range")
        if not self.bypass >= 0:
            raise LookforwardError(f"adapter.neti_bypass = {self.bypass} must not be negative.", code="setting-range")
        if not 0 <= self.dropout <= 1:
            raise LookforwardError(f"adapter.neti_dropout = {self.dropout} must lie in [0, 1].", code="setting-range")

    @property
    def changes_prompts(self) -> bool:
        return False  # they are encoded within `act`, which knows the timestep; see `ConceptPipeline`

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        """Raises LookforwardError if the identifier is no new word or the initial word is unknown."""

        def make(initial: Tensor, layers: int) -> SpaceTimeWords:
            frequencies = draw_frequencies(self.generator)
            # Made on the CPU, where the generator is
            words = SpaceTimeWords(initial.cpu(), frequencies, layers, self.width, self.bypass, self.generator)
            words.draw_keep = self.draw_keep if self.dropout > 0 else None
            return words

        return _attach(policy, self.identifier, self.initial_word, make)

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


def _attach(
    policy: DiffusionPolicy, identifier: str, initial_word: str, make: Callable[[Tensor, int], _Words]
) -> dict[str, nn.Parameter]:
    """Freeze the model and add a word; returns what is trainable of it, by name.

    make: from the initial word's vector (d,) and the number of layers.
    """
    for module in policy.components.values():
        module.requires_grad_(False)
    check_words(text_parts(policy.pipeline)[1], [Word(identifier, initial_word)])
    words = make(initial_vector(policy.pipeline, initial_word), len(cross_attentions(policy.denoiser)))
    become(policy.pipeline).set_concept(identifier, words)
    return {f"{words.kind}.{name}": parameter for name, parameter in words.named_parameters()}


def become(pipeline: Any) -> ConceptPipeline:
    """Make a `ConceptPipeline` of a plain one, in place, since others hold it and draw with it."""
    if type(pipeline) is StableDiffusionPipeline:
        pipeline.__class__ = ConceptPipeline
    if not isinstance(pipeline, ConceptPipeline):
        message = f"A {type(pipeline).__name__} cannot learn a word for each layer."
        raise LookforwardError(message, code="adapter-family")
    return pipeline


def release(pipeline: Any) -> None:
    """Undo `become`, and forget the word. A plain pipeline stays as it is."""
    if isinstance(pipeline, ConceptPipeline):
        pipeline.unload_concept()
        plain: Any = pipeline
        plain.__class__ = StableDiffusionPipeline


def write_word(policy: DiffusionPolicy, folder: Path) -> None:
    """Write the word, and the code that draws with it."""
    pipeline = become(policy.pipeline)
    if pipeline.concept is None:
        raise LookforwardError("This pipeline has no learned word: attach the adapter first.", code="word-missing")
    layers = json.dumps(list(cross_attentions(policy.denoiser)))
    metadata = {"kind": pipeline.concept.kind, "word": pipeline.word, "layers": layers, **pipeline.concept.about()}
    write_tensors(folder / WEIGHTS, pipeline.concept.state_dict(), metadata)
    (folder / CODE).write_bytes(Path(concept_pipeline.__file__).read_bytes())


def read_word(pipeline: Any, folder: Path, kind: str, strength: float = 1.0) -> None:
    """Put an exported word into a pipeline, in place; it becomes a `ConceptPipeline`.

    strength: 0 is the initial word, of NeTI without bypass, 1 the learned one; between and beyond, along the line
    through both.

    Raises:
        LookforwardError: the folder holds no such word, or it does not fit the pipeline, or that has one already.
    """
    if isinstance(pipeline, ConceptPipeline) and pipeline.concept is not None:
        message = f"The pipeline has the word {pipeline.word!r}: it has no room for a second word of p-plus or neti."
        raise LookforwardError(message, code="word-second")
    try:
        concept = become(pipeline)
        concept.load_concept(folder, strength)
    except Exception as error:  # OSError, ValueError, KeyError, RuntimeError, safetensors' own …
        release(pipeline)
        reason = str(error).splitlines()[0].rstrip(".")
        raise LookforwardError(
            f"{folder}/{WEIGHTS} cannot be loaded into this model: {reason}. Give the export of a word that was "
            "learned on the same base model.",
            code="export-misfit",
        ) from error
    if concept.concept is None or concept.concept.kind != kind:
        release(pipeline)
        raise LookforwardError(f"{folder}/{WEIGHTS} is not an export of {kind}.", code="export-misfit")
