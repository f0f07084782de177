"""What P+ and NeTI share: a word that looks different to each cross-attention layer is trained, written and read."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from lookforward.adapters.in_place import InPlace
from lookforward.adapters.words import Word, check_words, initial_vector, text_parts
from lookforward.errors import LookforwardError, first_line
from lookforward.files import write_tensors
from lookforward.models.families import layered_words
from lookforward.models.families.layered_words.embeddings import LayerWords, SpaceTimeWords
from lookforward.models.families.layered_words.pipeline import WEIGHTS, LayeredWordPipeline, cross_attentions
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class LayeredWordAdapter:
    """A word that looks different to each cross-attention layer is all that is trained.

    identifier: the new word, "<sks>". initial_word: whose embedding it begins with. make: its embeddings, from the
    initial word's vector (d,) and the number of layers. changes_prompts: not where they are encoded within `act`,
    which knows the timestep; see `LayeredWordPipeline`.

    The export is a file of weights and a custom pipeline for diffusers.
    """

    identifier: str
    initial_word: str
    make: Callable[[Tensor, int], LayerWords | SpaceTimeWords]
    changes_prompts: bool

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        """Raises LookforwardError if the identifier is no new word or the initial word is unknown."""
        for module in policy.components.values():
            module.requires_grad_(False)
        ((encoder, tokenizer),) = text_parts(policy.pipeline).values()
        check_words(tokenizer, [Word(self.identifier, self.initial_word)])
        initial = initial_vector(encoder, tokenizer, self.initial_word)
        words = self.make(initial, len(cross_attentions(policy.denoiser)))
        become(policy.pipeline).set_word(self.identifier, words)
        return {f"{words.kind}.{name}": parameter for name, parameter in words.named_parameters()}

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_word(policy, folder)


_IN_PLACE = InPlace(
    StableDiffusionPipeline, LayeredWordPipeline, LayeredWordPipeline.unload_word, "learn a word for each layer"
)
become, release = _IN_PLACE.become, _IN_PLACE.release


def write_word(policy: DiffusionPolicy, folder: Path) -> None:
    """Write the word, and the code that draws with it."""
    pipeline = become(policy.pipeline)
    embedding = pipeline.embedding
    if embedding is None:
        raise LookforwardError("This pipeline has no learned word: attach the adapter first.", code="word-missing")
    layers = json.dumps(list(cross_attentions(policy.denoiser)))
    metadata = {"kind": embedding.kind, "word": pipeline.identifier, "layers": layers, **embedding.about()}
    write_tensors(folder / WEIGHTS, embedding.state_dict(), metadata)
    for code in ("pipeline.py", "embeddings.py"):
        shutil.copyfile(Path(layered_words.__path__[0]) / code, folder / code)


def read_word(pipeline: Any, folder: Path, kind: str, strength: float = 1.0) -> None:
    """Put an exported word into a pipeline, in place; it becomes a `LayeredWordPipeline`.

    strength: 0 is the initial word, of NeTI without bypass, 1 the learned one; between and beyond, along the line
    through both.

    Raises:
        LookforwardError: the folder holds no such word, or it does not fit the pipeline, or that has one already.
    """
    if isinstance(pipeline, LayeredWordPipeline) and pipeline.embedding is not None:
        message = (
            f"The pipeline has the word {pipeline.identifier!r}: it has no room for a second word of p-plus or neti."
        )
        raise LookforwardError(message, code="word-second")
    try:
        changed = become(pipeline)
        changed.load_word(folder, strength)
    except Exception as error:  # OSError, ValueError, KeyError, RuntimeError, safetensors' own …
        release(pipeline)
        reason = first_line(error)
        raise LookforwardError(
            f"{folder}/{WEIGHTS} cannot be loaded into this model: {reason}. Give the export of a word that was "
            "learned on the same base model.",
            code="export-misfit",
        ) from error
    if changed.embedding is None or changed.embedding.kind != kind:
        release(pipeline)
        raise LookforwardError(f"{folder}/{WEIGHTS} is not an export of {kind}.", code="export-misfit")
