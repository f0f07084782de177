"""Learned words: tokens of their own in a pipeline's tokenizer, with trainable embeddings in its text encoder.

`teach_words` puts them in, `forget_words` takes them out again, object for object. The model's own vocabulary is
never touched: new rows are parameters of their own beside it, so that an optimizer and a checkpoint hold nothing else.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lookforward.errors import LookforwardError
from lookforward.files import write_tensors

LEARNED = "learned_embeds.safetensors"  # diffusers' name; it holds one word, further ones follow as learned_embeds_2 …


@dataclass(frozen=True)
class Word:
    """A word to learn.

    identifier: how prompts write it, "<sks>". initial_word: whose embedding it begins with. vectors: tokens that it
    is made of; the pipeline expands "<sks>" in a prompt to "<sks> <sks>_1 …" (`pipeline.maybe_convert_prompt`).
    """

    identifier: str
    initial_word: str
    vectors: int = 1

    @property
    def tokens(self) -> list[str]:
        """As diffusers names the tokens of a word of several vectors: "<sks>", "<sks>_1", …"""
        return [self.identifier, *(f"{self.identifier}_{i}" for i in range(1, self.vectors))]


class WordTable(nn.Module):
    """A text encoder's token embedding with the rows of learned words behind it.

    Args:
        base: the model's own token embedding, left as it is.
        tokenizer: the model's own tokenizer, to be put back.
        words: whose rows follow, in this order.
        rows: for each word (vectors, d), its first embedding.
        first: the token number of the first row.
    """

    def __init__(self, base: nn.Module, tokenizer: Any, words: Sequence[Word], rows: Sequence[Tensor], first: int):
        super().__init__()
        self.base, self.tokenizer, self.words, self.first = base, tokenizer, tuple(words), first
        self.rows = nn.ParameterList([nn.Parameter(row) for row in rows])

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (b, l) to (b, l, d)."""
        new = tokens >= self.first  # (b, l)
        known = self.base(tokens.masked_fill(new, 0))
        index = (tokens - self.first).clamp(min=0)
        # A prompt without the words chooses row 0 throughout, and shows it nowhere
        chosen = torch.cat(list(self.rows))[index].to(known.dtype)
        return torch.where(new[..., None], chosen, known)

    def named_rows(self) -> dict[str, nn.Parameter]:
        """Each word's rows by the name they have in a checkpoint: "word.<sks>" to (vectors, d)."""
        return {f"word.{word.identifier}": row for word, row in zip(self.words, self.rows, strict=True)}


def teach_words(pipeline: StableDiffusionPipeline, words: Sequence[Word]) -> WordTable:
    """Add words to the pipeline's tokenizer and text encoder; returns their rows, which require gradients.

    The tokenizer is replaced by a copy that knows the words.

    Raises:
        LookforwardError: an identifier is a word the model knows already, or is given twice; a first word is nothing
            to the tokenizer; a word has more vectors than a prompt has room for, or is not read as it is written.
    """
    if isinstance(pipeline.text_encoder.get_input_embeddings(), WordTable):
        raise LookforwardError("This pipeline is being taught words already: detach that adapter, or load it anew.")
    tokens = check_words(pipeline.tokenizer, words)
    rows = [initial_vector(pipeline, word.initial_word).repeat(word.vectors, 1) for word in words]
    original, first = pipeline.tokenizer, len(pipeline.tokenizer)
    table = WordTable(pipeline.text_encoder.get_input_embeddings(), original, words, rows, first)
    tokenizer = copy.deepcopy(original)
    tokenizer.add_tokens(tokens)
    for word in words:
        read = tokenizer(pipeline.maybe_convert_prompt(word.identifier, tokenizer), add_special_tokens=False).input_ids
        if read != tokenizer.convert_tokens_to_ids(word.tokens):  # CLIP reads lower case
            raise LookforwardError(
                f"identifier {word.identifier!r} is not read as it is written: write it in lower case, such as '<sks>'."
            )
    pipeline.tokenizer = tokenizer
    pipeline.text_encoder.set_input_embeddings(table)
    return table


def word_table(pipeline: StableDiffusionPipeline) -> WordTable:
    """The words that a pipeline is being taught.

    Raises:
        LookforwardError: none; no adapter that teaches words is attached.
    """
    table = pipeline.text_encoder.get_input_embeddings()
    if not isinstance(table, WordTable):
        raise LookforwardError("This pipeline is not being taught a word: attach the adapter first.")
    return table


def forget_words(pipeline: StableDiffusionPipeline) -> None:
    """Put back the tokenizer and the token embedding that `teach_words` found. Without words, does nothing."""
    table = pipeline.text_encoder.get_input_embeddings()
    if isinstance(table, WordTable):
        pipeline.tokenizer = table.tokenizer
        pipeline.text_encoder.set_input_embeddings(table.base)


def initial_vector(pipeline: StableDiffusionPipeline, initial_word: str) -> Tensor:
    """(d,): a copy of a known word's embedding, the mean where it is several tokens.

    Raises:
        LookforwardError: the word is nothing to the tokenizer.
    """
    tokenizer = pipeline.tokenizer
    silent = set(tokenizer.all_special_ids)  # an unknown piece becomes the end-of-text token, which says nothing
    tokens = [t for t in tokenizer(initial_word, add_special_tokens=False).input_ids if t not in silent]
    if not tokens:
        raise LookforwardError(
            f"initial_word {initial_word!r} is nothing to the model's tokenizer: give a word it knows, such as 'dog'."
        )
    weight = pipeline.text_encoder.get_input_embeddings().weight.detach()
    return weight[torch.tensor(tokens, device=weight.device)].mean(dim=0)


def check_words(tokenizer: Any, words: Sequence[Word]) -> list[str]:
    """The tokens that the words need, all of them new to the tokenizer.

    Raises:
        LookforwardError: see `teach_words`.
    """
    tokens = [token for word in words for token in word.tokens]
    vocabulary = tokenizer.get_vocab()
    for word in words:
        name = word.identifier
        pieces = [t for t in tokenizer(name, add_special_tokens=False).input_ids if t not in tokenizer.all_special_ids]
        if name in vocabulary or len(pieces) == 1:
            bare = name.strip("<>")
            remedy = f"<{bare}>" if f"<{bare}>" not in vocabulary else f"<my-{bare}>"
            raise LookforwardError(
                f"identifier {name!r} is a word that the model knows already; write it as {remedy!r}."
            )
        room = tokenizer.model_max_length - 2  # but for the marks of a prompt's start and end
        if not 1 <= word.vectors <= room:
            raise LookforwardError(f"word_vectors = {word.vectors} must lie in [1, {room}], the length of a prompt.")
        # A prompt's "<a>" would be expanded by another word of the name "<a>_1"
        following = f"{name}_{word.vectors}"
        if tokens.count(name) > 1 or following in tokens or following in vocabulary:
            raise LookforwardError(f"identifier {name!r} is taken, or another continues it; give each word its own.")
    return tokens


def write_words(table: WordTable, folder: Path) -> None:
    """Each word as a file for `pipeline.load_textual_inversion`: one tensor (vectors, d) named by the identifier.

    The word that it began with stands in the file's metadata, for `add_words`.
    """
    for i, (word, row) in enumerate(zip(table.words, table.rows, strict=True)):
        said = {"format": "pt", "initial_word": word.initial_word}
        write_tensors(folder / _file_name(i), {word.identifier: row.detach().float()}, said)


def add_words(pipeline: StableDiffusionPipeline, folder: Path, strength: float = 1.0) -> None:
    """Put the words that `write_words` or diffusers wrote into a pipeline: more tokens, a longer token embedding.

    strength: 1 is the word as it was learned, 0 the one that it began with, and between them what lies there.

    Raises:
        LookforwardError: a file is missing, damaged or of another model, the pipeline knows the word already, or the
            file does not say what its word began with and strength is not 1.
    """
    for i in range(max(1, len(list(folder.glob("learned_embeds*.safetensors"))))):
        path = folder / _file_name(i)
        word, rows = _read_word(path)
        if word.identifier in pipeline.tokenizer.get_vocab():
            raise LookforwardError(
                f"{path}: the model, or an adapter before this one, has a word {word.identifier!r} already. Draw with "
                "one of the two, or train one anew with another --identifier."
            )
        check_words(pipeline.tokenizer, [word])
        text_encoder: Any = pipeline.text_encoder
        embedding = text_encoder.get_input_embeddings()
        if rows.shape[1] != embedding.weight.shape[1]:
            raise LookforwardError(
                f"{path} holds vectors of {rows.shape[1]} numbers, but this model's words have "
                f"{embedding.weight.shape[1]}: give the model that it was trained on."
            )
        if strength != 1:
            if not word.initial_word:
                raise LookforwardError(f"{path} does not say what its word began with: give strength = 1.")
            rows = torch.lerp(initial_vector(pipeline, word.initial_word).cpu().float(), rows, strength)
        # First without the multivariate normal that transformers would draw the new rows from; they are set at once
        with torch.random.fork_rng(devices=[]):
            text_encoder.resize_token_embeddings(len(pipeline.tokenizer) + len(rows), mean_resizing=False)
        pipeline.load_textual_inversion({word.identifier: rows.to(embedding.weight.dtype)})
        text_encoder.get_input_embeddings().requires_grad_(embedding.weight.requires_grad)


def _read_word(path: Path) -> tuple[Word, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            ((identifier, rows),) = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
            initial_word = (file.metadata() or {}).get("initial_word", "")
    except (OSError, SafetensorError, ValueError) as error:
        raise LookforwardError(f"{path} is no learned word: {error}. Give the export's folder.") from error
    rows = torch.atleast_2d(rows.float())  # (vectors, d); of one vector, diffusers writes (d,)
    return Word(identifier, initial_word, len(rows)), rows


def _file_name(index: int) -> str:
    # Not by identifier, as diffusers' Custom Diffusion does: some systems allow no < and > in names
    return LEARNED if index == 0 else LEARNED.replace(".", f"_{index + 1}.")
