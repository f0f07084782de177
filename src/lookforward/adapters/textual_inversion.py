"""Textual Inversion (Gal et al., 2023): a new word is all that is learned; the model stays as it is.

The token embeddings of new words: 768 numbers for each vector in Stable Diffusion 1.4. `words.py` puts them into the
text encoder; here are the adapter and its files.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lookforward.adapters.words import (
    Word,
    WordTable,
    add_words,
    check_words,
    initial_vector,
    remove_words,
    text_parts,
    word_table,
    words_of,
)
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.policy import DiffusionPolicy

LEARNED = "learned_embeds.safetensors"  # diffusers' name; it holds one word, further ones follow as learned_embeds_2 …


@dataclass(frozen=True)
class TextualInversionAdapter:
    """Textual Inversion: the rows of new words are all that is trained.

    The export is `learned_embeds.safetensors`, which `pipeline.load_textual_inversion(folder)` reads; with several
    words, the second is in `learned_embeds_2.safetensors`, and so on.

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
        write_words(word_table(policy.pipeline), folder)


def build_textual_inversion(settings: Any, _: torch.Generator) -> TextualInversionAdapter:
    """The adapter of a run's settings."""
    return TextualInversionAdapter(words_of(settings, settings.adapter.vectors))


def write_words(table: WordTable, folder: Path) -> None:
    """Each word as a file for `pipeline.load_textual_inversion`: one tensor (vectors, d) named by the identifier.

    The file's metadata store the initial word, for `load_words`.
    """
    for i, (word, row) in enumerate(zip(table.words, table.rows, strict=True)):
        metadata = {"format": "pt", "initial_word": word.initial_word}
        write_tensors(folder / _file_name(i), {word.identifier: row.detach().float()}, metadata)


def load_words(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """Put the words that `write_words` or diffusers wrote into a pipeline: more tokens, a longer token embedding.

    strength: 1 is the word as it was learned, 0 the initial one; values between interpolate.

    Raises:
        LookforwardError: a file is missing, damaged or of another model, the pipeline knows the word already, or the
            file does not say what its word began with and strength is not 1.
    """
    for i in range(max(1, len(list(folder.glob("learned_embeds*.safetensors"))))):
        path = folder / _file_name(i)
        word, rows = _read_word(path)
        encoder, tokenizer = text_parts(pipeline)
        if word.identifier in tokenizer.get_vocab():
            raise LookforwardError(
                f"{path}: the model, or an adapter before this one, has a word {word.identifier!r} already. Draw with "
                "one of the two, or train one again with another --identifier.",
                code="identifier-known",
            )
        check_words(tokenizer, [word])
        embedding = encoder.get_input_embeddings()
        if rows.shape[1] != embedding.weight.shape[1]:
            raise LookforwardError(
                f"{path} holds vectors of {rows.shape[1]} numbers, but this model's words have "
                f"{embedding.weight.shape[1]}: give the model that it was trained on.",
                code="export-misfit",
            )
        if strength != 1:
            if not word.initial_word:
                message = f"{path} does not say which word its training began with: give strength = 1."
                raise LookforwardError(message, code="export-strength")
            rows = torch.lerp(initial_vector(pipeline, word.initial_word).cpu().float(), rows, strength)
        # First without the multivariate normal that transformers would draw the new rows from; they are set at once
        with torch.random.fork_rng(devices=[]):
            encoder.resize_token_embeddings(len(tokenizer) + len(rows), mean_resizing=False)
        pipeline.load_textual_inversion({word.identifier: rows.to(embedding.weight.dtype)})
        encoder.get_input_embeddings().requires_grad_(embedding.weight.requires_grad)


def write_single_words(export: Path, folder: Path) -> None:
    """Write each learned word of an export as a file that A1111 and ComfyUI read: a single tensor (vectors, d).

    There, prompts call the word by the file's name.

    Raises:
        LookforwardError: the folder holds no learned word, or two whose files would be of one name.
    """
    for path in sorted(export.glob("learned_embeds*.safetensors")) or [export / LEARNED]:
        try:
            ((identifier, rows),) = load_file(path).items()
        except Exception as error:  # OSError, safetensors' own, or several tensors
            message = f"{path} cannot be read: give the export of a learned word."
            raise LookforwardError(message, code="export-unreadable") from error
        file = folder / f"{file_name(identifier)}.safetensors"
        if file.exists():
            message = f"{export} holds two words that would both be {file.name}: give it in diffusers."
            raise LookforwardError(message, code="identifier-twice")
        save_file({identifier: rows.reshape(-1, rows.shape[-1]).contiguous()}, file)


def file_name(identifier: str) -> str:
    """An identifier as the name of a file: "<sks>" becomes "sks"."""
    return re.sub(r"[^\w-]+", "-", identifier).strip("-") or "word"


def _read_word(path: Path) -> tuple[Word, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            ((identifier, rows),) = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
            initial_word = (file.metadata() or {}).get("initial_word", "")
    except (OSError, SafetensorError, ValueError) as error:
        message = f"{path} is not a learned word: {error}. Give the export's folder."
        raise LookforwardError(message, code="export-unreadable") from error
    rows = torch.atleast_2d(rows.float())  # (vectors, d); of one vector, diffusers writes (d,)
    return Word(identifier, initial_word, len(rows)), rows


def _file_name(index: int) -> str:
    # Not by identifier, as diffusers' Custom Diffusion does: some systems allow no < and > in names
    return LEARNED if index == 0 else LEARNED.replace(".", f"_{index + 1}.")
