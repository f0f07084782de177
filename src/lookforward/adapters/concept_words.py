"""A pipeline becomes a `ConceptPipeline` and the plain one again, and its word an export."""

import json
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from lookforward.adapters.words import Word, check_words, initial_vector
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.families import concept_pipeline
from lookforward.models.families.concept_pipeline import (
    WEIGHTS,
    ConceptPipeline,
    LayerWords,
    SpaceTimeWords,
    cross_attentions,
)
from lookforward.models.policy import DiffusionPolicy

CODE = "pipeline.py"  # the name by which diffusers finds it in a folder


def prepare_word(policy: DiffusionPolicy, identifier: str, initial_word: str) -> tuple[Tensor, int]:
    """Freeze the model; returns the vector (d,) that a word of it begins with, and its number of layers.

    Raises:
        LookforwardError: the identifier is no new word, or the initial word is nothing to the tokenizer.
    """
    pipeline = policy.pipeline
    for module in (policy.unet, policy.text_encoder):
        module.requires_grad_(False)
    check_words(pipeline.tokenizer, [Word(identifier, initial_word)])
    return initial_vector(pipeline, initial_word), len(cross_attentions(pipeline.unet))


def adopt(
    pipeline: StableDiffusionPipeline, word: str, concept: LayerWords | SpaceTimeWords
) -> dict[str, nn.Parameter]:
    """Teach a plain pipeline a word, in place; returns what is trainable of it, by name."""
    become(pipeline).set_concept(word, concept)
    return {f"{concept.kind}.{name}": parameter for name, parameter in concept.named_parameters()}


def become(pipeline: Any) -> ConceptPipeline:
    """Make a `ConceptPipeline` of a plain one, in place, since others hold it and draw with it."""
    if type(pipeline) is StableDiffusionPipeline:
        pipeline.__class__ = ConceptPipeline
    if not isinstance(pipeline, ConceptPipeline):
        raise LookforwardError(f"A {type(pipeline).__name__} cannot learn a word for each layer.")
    return pipeline


def release(pipeline: Any) -> None:
    """Undo `become`, and forget the word. A plain pipeline stays as it is."""
    if isinstance(pipeline, ConceptPipeline):
        pipeline.unload_concept()
        plain: Any = pipeline
        plain.__class__ = StableDiffusionPipeline


def write_word(policy: DiffusionPolicy, folder: Path) -> None:
    """The word, and the code that draws with it."""
    pipeline = become(policy.pipeline)
    if pipeline.concept is None:
        raise LookforwardError("This pipeline is not being taught a word: attach the adapter first.")
    layers = json.dumps(list(cross_attentions(policy.unet)))
    said = {"kind": pipeline.concept.kind, "word": pipeline.word, "layers": layers, **pipeline.concept.about()}
    write_tensors(folder / WEIGHTS, pipeline.concept.state_dict(), said)
    (folder / CODE).write_bytes(Path(concept_pipeline.__file__).read_bytes())


def read_word(pipeline: StableDiffusionPipeline, folder: Path, kind: str, strength: float) -> None:
    """Put an exported word into a pipeline that has none of this kind yet.

    Raises:
        LookforwardError: the folder holds no such word, or it does not fit the pipeline, or that has one already.
    """
    if isinstance(pipeline, ConceptPipeline) and pipeline.concept is not None:
        raise LookforwardError(f"The pipeline holds {pipeline.word!r}: a second word of p-plus or neti has no room.")
    try:
        taught = become(pipeline)
        taught.load_concept(folder, strength)
    except Exception as error:  # OSError, ValueError, KeyError, RuntimeError, safetensors' own …
        release(pipeline)
        reason = str(error).splitlines()[0].rstrip(".")
        raise LookforwardError(
            f"{folder}/{WEIGHTS} cannot be loaded into this model: {reason}. Give the export of a word that was "
            "learned on the same base model."
        ) from error
    if taught.concept is None or taught.concept.kind != kind:
        release(pipeline)
        raise LookforwardError(f"{folder}/{WEIGHTS} is no export of {kind}.")
