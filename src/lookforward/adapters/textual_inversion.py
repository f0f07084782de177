"""Textual Inversion (Gal et al., 2023): a new word is all that is learned; the model stays as it is.

The token embeddings of new words: 768 numbers for each vector in Stable Diffusion 1.4, 768 + 1,280 in Stable Diffusion
XL, whose two encoders both learn the word. `words.py` puts them into the text encoders; here are the adapter and its
files.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lookforward.adapters.words import (
    Word,
    WordTables,
    add_words,
    check_words,
    initial_vector,
    remove_words,
    text_parts,
    word_tables,
    words_of,
)
from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.families import family_of
from lookforward.models.families.words import loads_words
from lookforward.models.policy import DiffusionPolicy

LEARNED = "learned_embeds.safetensors"  # diffusers' name; it holds one word, further ones follow as learned_embeds_2 …


@dataclass(frozen=True)
class TextualInversionAdapter:
    """Textual Inversion: the rows of new words are all that is trained.

    The export is `learned_embeds.safetensors`; with several words, the second is in `learned_embeds_2.safetensors`, and
    so on. See `write_words`.

    Raises:
        LookforwardError: when attached, see `add_words`.
    """

    words: tuple[Word, ...]

    changes_prompts = True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        for module in policy.components.values():
            module.requires_grad_(False)
        return add_words(policy.pipeline, self.words).named_rows()

    def detach(self, policy: DiffusionPolicy) -> None:
        remove_words(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_words(word_tables(policy.pipeline), folder)


def build_textual_inversion(settings: Any, _: torch.Generator) -> TextualInversionAdapter:
    """The adapter of a run's settings."""
    return TextualInversionAdapter(words_of(settings, settings.adapter.vectors))


def write_words(words: WordTables, folder: Path) -> None:
    """Each word as a file: a tensor (vectors, d) for each text encoder, by its name in `Family.word_files`.

    With one encoder the tensor is named by the identifier, as `pipeline.load_textual_inversion` reads it. With two they
    are `clip_l` and `clip_g`, which ComfyUI and A1111 read, and diffusers one by one. The file's metadata store the
    identifier and the initial word, for `load_words`.
    """
    for i, word in enumerate(words.words):
        rows = {words.files[name] or word.identifier: table.rows[i].detach() for name, table in words.tables.items()}
        metadata = {"format": "pt", "initial_word": word.initial_word}
        metadata |= {"identifier": word.identifier} if len(rows) > 1 else {}
        write_tensors(folder / _file_name(i), {name: row.float() for name, row in rows.items()}, metadata)


def load_words(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """Put the words that `write_words` or diffusers wrote into a pipeline: more tokens, a longer token embedding.

    strength: 1 is the word as it was learned, 0 the initial one; values between interpolate.

    Raises:
        LookforwardError: a file is missing, damaged or of another model, the pipeline knows the word already, or the
            file does not say what its word began with and strength is not 1.
    """
    parts, files = text_parts(pipeline), family_of(pipeline).word_files
    for i in range(max(1, len(list(folder.glob("learned_embeds*.safetensors"))))):
        path = folder / _file_name(i)
        word, tensors = _read_word(path, files)
        if strength != 1 and not word.initial_word:
            message = f"{path} does not say which word its training began with: give strength = 1."
            raise LookforwardError(message, code="export-strength")
        learned = {name: _fitted(*parts[name], word, tensors[name], path, strength) for name in parts}
        for name, (encoder, tokenizer) in parts.items():
            _put_word(pipeline, encoder, tokenizer, word, learned[name])


def _fitted(encoder: Any, tokenizer: Any, word: Word, rows: Tensor, path: Path, strength: float) -> Tensor:
    """A word's vectors (vectors, d) for one text encoder, at a strength."""
    if word.identifier in tokenizer.get_vocab():
        raise LookforwardError(
            f"{path}: the model, or an adapter before this one, has a word {word.identifier!r} already. Draw with "
            "one of the two, or train one again with another --identifier.",
            code="identifier-known",
        )
    check_words(tokenizer, [word])
    width = encoder.get_input_embeddings().weight.shape[1]
    if rows.shape[1] != width:
        raise LookforwardError(
            f"{path} holds vectors of {rows.shape[1]} numbers, but this model's words have {width}: give the model "
            "that it was trained on.",
            code="export-misfit",
        )
    if strength == 1:
        return rows
    return torch.lerp(initial_vector(encoder, tokenizer, word.initial_word).cpu().float(), rows, strength)


def _put_word(pipeline: Any, encoder: Any, tokenizer: Any, word: Word, rows: Tensor) -> None:
    """Add a word to a tokenizer and a text encoder, for good."""
    embedding = encoder.get_input_embeddings()
    # Without the multivariate normal that transformers would draw the new rows from; they are set at once
    with torch.random.fork_rng(devices=[]):
        encoder.resize_token_embeddings(len(tokenizer) + len(rows), mean_resizing=False)
    rows, longer = rows.to(embedding.weight.dtype), encoder.get_input_embeddings()
    if loads_words(pipeline):
        pipeline.load_textual_inversion(rows, word.identifier, tokenizer, encoder)
    else:
        tokenizer.add_tokens(word.tokens)
        longer.weight.data[tokenizer.convert_tokens_to_ids(word.tokens)] = rows.to(longer.weight.device)
    encoder.get_input_embeddings().requires_grad_(embedding.weight.requires_grad)


def usage(words: Sequence[str], family: Family) -> list[str]:
    """The lines that load an export's words in plain diffusers. words: their identifiers."""
    files, loads = [_file_name(i) for i in range(len(words))], loads_words(getattr(diffusers, family.pipeline_class))
    if len(family.word_files) == 1 and loads:
        return [f'pipeline.load_textual_inversion("FOLDER", weight_name="{file}")' for file in files]
    lines = ["from safetensors.torch import load_file"]
    for word, file in zip(words, files, strict=True):
        identifier = json.dumps(word, ensure_ascii=False)  # Python reads strings as JSON does
        lines.append(f'word = load_file("FOLDER/{file}")')
        for encoder, name in family.word_files.items():
            tokenizer = family.tokenizers[family.text_encoders.index(encoder)]
            if loads:
                lines += [
                    f'pipeline.load_textual_inversion(word["{name}"], token={identifier}, '
                    f"text_encoder=pipeline.{encoder}, tokenizer=pipeline.{tokenizer})"
                ]
                continue
            lines += [
                f'tokens = [{identifier}, *({identifier} + f"_{{i}}" for i in range(1, len(word["{name}"])))]',
                f"pipeline.{tokenizer}.add_tokens(tokens)",
                f"pipeline.{encoder}.resize_token_embeddings(len(pipeline.{tokenizer}), mean_resizing=False)",
                f'pipeline.{encoder}.get_input_embeddings().weight.data[-len(tokens) :] = word["{name}"]',
            ]
    return lines


def write_single_words(export: Path, folder: Path) -> None:
    """Write each learned word of an export as a file that A1111 and ComfyUI read: a tensor (vectors, d) per encoder.

    There, prompts call the word by the file's name.

    Raises:
        LookforwardError: the folder holds no learned word, or two whose files would be of one name.
    """
    for path in sorted(export.glob("learned_embeds*.safetensors")) or [export / LEARNED]:
        try:
            tensors, metadata = _read_tensors(path)
            identifier = metadata.get("identifier") or "".join(tensors)
            if len(tensors) > 1 and "identifier" not in metadata:
                raise ValueError("several tensors")
        except (OSError, SafetensorError, ValueError) as error:
            message = f"{path} cannot be read: give the export of a learned word."
            raise LookforwardError(message, code="export-unreadable") from error
        file = folder / f"{file_name(identifier)}.safetensors"
        if file.exists():
            message = f"{export} holds two words that would both be {file.name}: give it in diffusers."
            raise LookforwardError(message, code="identifier-twice")
        save_file({name: rows.reshape(-1, rows.shape[-1]).contiguous() for name, rows in tensors.items()}, file)


def file_name(identifier: str) -> str:
    """An identifier as the name of a file: "<sks>" becomes "sks"."""
    return re.sub(r"[^\w-]+", "-", identifier).strip("-") or "word"


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and its metadata."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_word(path: Path, files: Mapping[str, str]) -> tuple[Word, dict[str, Tensor]]:
    """A word and its vectors (vectors, d) for each text encoder. files: as `Family.word_files`."""
    try:
        tensors, metadata = _read_tensors(path)
        if len(files) == 1:
            ((identifier, rows),) = tensors.items()
            tensors = dict.fromkeys(files, rows)
        else:
            identifier = metadata["identifier"]
            tensors = {name: tensors[file] for name, file in files.items()}
        # Of one vector, diffusers writes (d,)
        found = {name: torch.atleast_2d(rows.float()) for name, rows in tensors.items()}
        (vectors,) = {len(rows) for rows in found.values()}
        if not vectors or not identifier.strip() or any(rows.ndim != 2 for rows in found.values()):
            raise ValueError("a word has a name, and rows of numbers")
    except KeyError as error:
        raise LookforwardError(
            f"{path} has no {error}, of a word that two text encoders read: give an export of the model that it was "
            "trained on.",
            code="export-misfit",
        ) from error
    except (OSError, SafetensorError, ValueError) as error:
        message = f"{path} is not a learned word: {error}. Give the export's folder."
        raise LookforwardError(message, code="export-unreadable") from error
    return Word(identifier, metadata.get("initial_word", ""), vectors), found


def _file_name(index: int) -> str:
    # Not by identifier, as diffusers' Custom Diffusion does: some systems allow no < and > in names
    return LEARNED if index == 0 else LEARNED.replace(".", f"_{index + 1}.")
