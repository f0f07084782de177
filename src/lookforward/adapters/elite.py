"""ELITE (Wei et al., 2023): a word, and details of the photos that the cross-attentions read beside it.

An encoder of photos (`models.photo_encoder`) gives both at once; the adapter trains them further on one subject. Other
adapters can start from what an encoder gives too: `started.StartedAdapter`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from torch import Tensor, nn

from lookforward.adapters.in_place import InPlace
from lookforward.adapters.photo_tokens import PhotoTokensAdapter
from lookforward.adapters.photo_tokens import become as become_flow
from lookforward.adapters.photo_tokens import release as release_flow
from lookforward.adapters.words import (
    Word,
    WordTable,
    add_words,
    initial_vector,
    remove_words,
    text_parts,
    word_tables,
    words_of,
)
from lookforward.errors import LookforwardError, first_line
from lookforward.files import write_tensors
from lookforward.models.families.photo_prompts import pipeline as photo_prompts
from lookforward.models.families.photo_prompts.flow import PhotoTokensPipeline
from lookforward.models.families.photo_prompts.pipeline import (
    WEIGHTS,
    DetailProjections,
    PhotoPrompt,
    PhotoPromptPipeline,
    cross_attentions,
)
from lookforward.models.policy import DiffusionPolicy

DETAILS = 16  # of a subject that no encoder has seen


@dataclass(frozen=True)
class Start:
    """What an encoder gives of the subjects of a run, in the order of their words.

    tokens: of a flow transformer, (n, d) of each, in the place of all others.
    vectors: v_0 of each, (d,). details: e of each, (n, d); none of an encoder without a local mapping. projections: of
    the details. strength: λ.
    """

    vectors: tuple[Tensor, ...]
    details: tuple[Tensor, ...] = ()
    projections: DetailProjections | None = None
    strength: float = 1.0
    tokens: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class EliteAdapter:
    """Words, details and their projections are trained, of a flow transformer tokens; the model stays as it is.

    start: what an encoder gives; None: the words begin as their initial words, and details add nothing yet.

    Raises:
        LookforwardError: when attached, see `add_words`.
    """

    words: tuple[Word, ...]
    seed: int = 0
    start: Start | None = None

    changes_prompts = True

    def _of_flow(self, policy: DiffusionPolicy) -> PhotoTokensAdapter | None:
        if "cross-attention" in policy.family.capabilities:
            return None
        names = tuple(word.identifier for word in self.words)
        return PhotoTokensAdapter(names, self.start.tokens if self.start else None)

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        if (flow := self._of_flow(policy)) is not None:
            return flow.attach(policy)
        for module in policy.components.values():
            module.requires_grad_(False)
        table = add_start_words(policy, self.words, self.start)
        prompt = prompt_of(self.words, self.start or _fresh(policy, self.words, self.seed))
        parameters = {f"word.{word.identifier}": table.rows[i] for i, word in enumerate(self.words)}
        if prompt is not None:
            become(policy.pipeline).set_photo_prompt(prompt)
            parameters |= {f"details.{name}": one for name, one in zip(prompt.identifiers, prompt.details, strict=True)}
            parameters |= {f"projections.{name}": one for name, one in prompt.projections.named_parameters()}
        return parameters  # pyright: ignore[reportReturnType]

    def detach(self, policy: DiffusionPolicy) -> None:
        if (flow := self._of_flow(policy)) is not None:
            flow.detach(policy)
            return
        release(policy.pipeline)
        remove_words(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        if (flow := self._of_flow(policy)) is not None:
            flow.export(policy, folder)
            return
        write_photo_prompt(policy, folder, self.words, with_words=True)


def build_elite(settings: Any, generator: torch.Generator) -> EliteAdapter:
    """The adapter of a run's settings."""
    return EliteAdapter(words_of(settings), int(torch.randint(2**31, (1,), generator=generator)))


def prompt_of(words: tuple[Word, ...], start: Start) -> PhotoPrompt | None:
    """What a pipeline is shown of a start beside its words; None if that is nothing."""
    if start.projections is None:
        return None
    most = max(len(one) for one in start.details)
    rows = [one[torch.arange(most, device=one.device) % len(one)] for one in start.details]  # as many of each subject
    details = {word.identifier: one.clone() for word, one in zip(words, rows, strict=True)}
    own = start.projections
    copied = DetailProjections(own.widths, own.width)
    copied.load_state_dict(own.state_dict())
    return PhotoPrompt(details, copied, start.strength)


def _fresh(policy: DiffusionPolicy, words: tuple[Word, ...], seed: int) -> Start:
    """Words as they are, and details at random, whose values W_v are zero."""
    table = table_of(policy)
    weight: Any = table.base.weight
    width, spread = weight.shape[1], weight.std()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projections = DetailProjections.of(policy.denoiser, width)
    details = tuple(torch.randn(DETAILS, width, generator=generator).to(spread) * spread for _ in words)
    return Start(tuple(rows[0].detach() for rows in table.rows), details, projections)


def table_of(policy: DiffusionPolicy) -> WordTable:
    (table,) = word_tables(policy.pipeline).tables.values()
    return table


def add_start_words(policy: DiffusionPolicy, words: tuple[Word, ...], start: Start | None) -> WordTable:
    add_words(policy.pipeline, words)
    if start is not None:
        set_words(table_of(policy), start)
    return table_of(policy)


@torch.no_grad()
def set_words(table: WordTable, start: Start) -> None:
    for rows, vector in zip(table.rows, start.vectors, strict=True):
        rows.copy_(vector.expand_as(rows))


_IN_PLACE = InPlace(
    StableDiffusionPipeline, PhotoPromptPipeline, PhotoPromptPipeline.unload_photo_prompt, "be shown photos"
)
become, release = _IN_PLACE.become, _IN_PLACE.release


@contextmanager
def plain_pipeline(policy: DiffusionPolicy, *, words: bool) -> Iterator[None]:
    """The pipeline without the photo prompt for a while, and without its words if `words`."""
    pipeline = policy.pipeline
    prompt = getattr(pipeline, "photo_prompt", None)
    ((encoder, tokenizer),) = text_parts(pipeline).values()
    table = encoder.get_input_embeddings()
    release(pipeline)
    if words:
        remove_words(pipeline)
    try:
        yield
    finally:
        if words:
            pipeline.tokenizer = tokenizer
            encoder.set_input_embeddings(table)
        if prompt is not None:
            become(pipeline).set_photo_prompt(prompt)


def write_photo_prompt(policy: DiffusionPolicy, folder: Path, words: tuple[Word, ...], *, with_words: bool) -> None:
    """Write `photo_prompt.safetensors`, and the code that draws with it."""
    tensors: dict[str, Tensor] = {}
    if with_words:
        rows = table_of(policy).rows
        with plain_pipeline(policy, words=True):
            ((encoder, tokenizer),) = text_parts(policy.pipeline).values()
            for i, word in enumerate(words):
                tensors[f"word.{word.identifier}"] = rows[i].float()
                tensors[f"initial.{word.identifier}"] = initial_vector(encoder, tokenizer, word.initial_word)[None]
    prompt: PhotoPrompt | None = getattr(policy.pipeline, "photo_prompt", None)
    if prompt is not None:
        tensors |= {f"details.{name}": one for name, one in zip(prompt.identifiers, prompt.details, strict=True)}
        tensors |= {f"projections.{name}": one for name, one in prompt.projections.state_dict().items()}
    layers = {name: layer.to_q.out_features for name, layer in cross_attentions(policy.denoiser).items()}
    ((encoder, _),) = text_parts(policy.pipeline).values()
    metadata: Mapping[str, str] = {
        "format": "pt",
        "subjects": json.dumps([word.identifier for word in words]),
        "layers": json.dumps(layers),
        "width": str(encoder.config.hidden_size),
        "strength": str(prompt.strength if prompt is not None else 1.0),
    }
    write_tensors(folder / WEIGHTS, tensors, metadata)
    shutil.copyfile(Path(photo_prompts.__file__), folder / "pipeline.py")


def load_photo_prompt(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """Put an exported photo prompt into a pipeline, in place; it becomes a `PhotoPromptPipeline`.

    strength: 0 is the model before, with the initial word, 1 as it was trained.

    Raises:
        LookforwardError: the folder holds none, or it does not fit the pipeline, or that is shown photos already.
    """
    was_plain = not isinstance(pipeline, PhotoPromptPipeline | PhotoTokensPipeline)
    try:
        (become_flow if isinstance(pipeline, StableDiffusion3Pipeline) else become)(pipeline).load_photo_prompt(
            folder, strength
        )
    except Exception as error:  # OSError, ValueError, KeyError, RuntimeError, safetensors' own …
        if was_plain:
            release(pipeline)
            release_flow(pipeline)
        reason = first_line(error)
        raise LookforwardError(
            f"{folder}/{WEIGHTS} cannot be loaded into this model: {reason}. Give the export of an adapter that was "
            "trained on the same base model, and only one that is shown photos.",
            code="export-misfit",
        ) from error
