"""Learned words: tokens of their own in a pipeline's tokenizers, with trainable embeddings in its text encoders.

A model with two CLIP encoders reads a word with both, so that it has an embedding in each. `add_words` puts words in to
be trained, `remove_words` takes them out again, object for object. The model's own vocabulary is never touched: new
rows are parameters of their own beside it, so that an optimizer and a checkpoint hold nothing else.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.errors import LookforwardError
from lookforward.models.families import family_of
from lookforward.models.families.words import written_out


@dataclass(frozen=True)
class Word:
    """A word to learn.

    identifier: how prompts write it, "<sks>". initial_word: whose embedding it begins with. vectors: tokens that it
    is made of; "<sks>" in a prompt is written out to "<sks> <sks>_1 …" before it is read (`written_out`).
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


@dataclass(frozen=True)
class WordTables:
    """The learned words of a pipeline: the table of each text encoder that reads them, by the pipeline's own names.

    files: the name of each encoder's vectors in a word's file.
    """

    tables: Mapping[str, WordTable]
    files: Mapping[str, str]

    @property
    def words(self) -> tuple[Word, ...]:
        return next(iter(self.tables.values())).words

    def named_rows(self) -> dict[str, nn.Parameter]:
        """Each word's rows (vectors, d) by the name that they have in a checkpoint: "word.<sks>".

        With several encoders, the name in the file follows: "word.<sks>.clip_g".
        """
        return {
            f"word.{word.identifier}" + (f".{self.files[name]}" if len(self.tables) > 1 else ""): table.rows[i]
            for name, table in self.tables.items()
            for i, word in enumerate(self.words)
        }  # pyright: ignore[reportReturnType]


def words_of(settings: Any, vectors: int = 1) -> tuple[Word, ...]:
    """The words that a run's settings ask for, one for each subject."""
    from lookforward.data.subjects import subjects_of

    first = settings.adapter.initial_word
    return tuple(Word(name, first or noun, vectors) for name, noun in subjects_of(settings))


def text_parts(pipeline: Any) -> dict[str, tuple[Any, Any]]:
    """The text encoders that words are added to, each with its tokenizer, by the pipeline's own names.

    Raises:
        LookforwardError: the model cannot learn words.
    """
    family = family_of(pipeline)
    if not family.word_files:
        raise LookforwardError(f"A model of {family.label} cannot learn words.", code="adapter-family")
    return {
        encoder: (getattr(pipeline, encoder), getattr(pipeline, tokenizer))
        for encoder, tokenizer in zip(family.text_encoders, family.tokenizers, strict=True)
        if encoder in family.word_files
    }


def _set_tokenizer(pipeline: Any, encoder: str, tokenizer: Any) -> None:
    family = family_of(pipeline)
    setattr(pipeline, family.tokenizers[family.text_encoders.index(encoder)], tokenizer)


def add_words(pipeline: Any, words: Sequence[Word]) -> WordTables:
    """Add words to the pipeline's tokenizers and text encoders; returns their rows, which require gradients.

    The tokenizers are replaced by copies that know the words.

    Raises:
        LookforwardError: an identifier is a word the model knows already, or is given twice; a first word is nothing
            to the tokenizer; a word has more vectors than a prompt has room for, or is not read as it is written.
    """
    tables, tokenizers = {}, {}
    for name, (encoder, original) in text_parts(pipeline).items():
        if isinstance(encoder.get_input_embeddings(), WordTable):
            message = "This pipeline has an adapter of words already: detach it, or load the pipeline again."
            raise LookforwardError(message, code="word-second")
        tokens = check_words(original, words)
        rows = [initial_vector(encoder, original, word.initial_word).repeat(word.vectors, 1) for word in words]
        tables[name] = WordTable(encoder.get_input_embeddings(), original, words, rows, first=len(original))
        tokenizers[name] = copy.deepcopy(original)
        tokenizers[name].add_tokens(tokens)
        for word in words:
            _require_read(tokenizers[name], word)
    for name, table in tables.items():  # after all checks, so that an error leaves the pipeline as it was
        _set_tokenizer(pipeline, name, tokenizers[name])
        getattr(pipeline, name).set_input_embeddings(table)
    return WordTables(tables, family_of(pipeline).word_files)


def _require_read(tokenizer: Any, word: Word) -> None:
    (written,) = written_out(tokenizer, [word.identifier])
    if tokenizer(written, add_special_tokens=False).input_ids != tokenizer.convert_tokens_to_ids(word.tokens):
        raise LookforwardError(  # CLIP reads lower case
            f"The tokenizer changes the identifier {word.identifier!r}: write it in lower case, such as '<sks>'.",
            code="identifier-unreadable",
        )


def word_tables(pipeline: Any) -> WordTables:
    """The words that an adapter has added to a pipeline.

    Raises:
        LookforwardError: none; no adapter of words is attached.
    """
    tables = {name: encoder.get_input_embeddings() for name, (encoder, _) in text_parts(pipeline).items()}
    if not all(isinstance(table, WordTable) for table in tables.values()):
        raise LookforwardError("This pipeline has no learned word: attach the adapter first.", code="word-missing")
    return WordTables(tables, family_of(pipeline).word_files)


def remove_words(pipeline: Any) -> None:
    """Put back the tokenizers and the token embeddings that `add_words` found. Without words, does nothing."""
    for name, (encoder, _) in text_parts(pipeline).items():
        table = encoder.get_input_embeddings()
        if isinstance(table, WordTable):
            _set_tokenizer(pipeline, name, table.tokenizer)
            encoder.set_input_embeddings(table.base)


def initial_vector(encoder: Any, tokenizer: Any, initial_word: str) -> Tensor:
    """(d,): a copy of a text encoder's embedding of a known word, the mean where it is several tokens.

    Raises:
        LookforwardError: the word is nothing to the tokenizer.
    """
    silent = set(tokenizer.all_special_ids)  # an unknown piece becomes the end-of-text token, which says nothing
    tokens = [t for t in tokenizer(initial_word, add_special_tokens=False).input_ids if t not in silent]
    if not tokens:
        raise LookforwardError(
            f"The model's tokenizer does not know the initial word {initial_word!r}: give one it knows, such as 'dog'.",
            code="initial-word-unknown",
        )
    weight = encoder.get_input_embeddings().weight.detach()
    return weight[torch.tensor(tokens, device=weight.device)].mean(dim=0)


def check_words(tokenizer: Any, words: Sequence[Word]) -> list[str]:
    """The tokens that the words need, all of them new to the tokenizer.

    Raises:
        LookforwardError: see `add_words`.
    """
    tokens = [token for word in words for token in word.tokens]
    vocabulary = tokenizer.get_vocab()
    for word in words:
        name = word.identifier
        pieces = [t for t in tokenizer(name, add_special_tokens=False).input_ids if t not in tokenizer.all_special_ids]
        if name in vocabulary or len(pieces) == 1:
            bare = name.strip("<>")
            remedy = f"<{bare}>" if f"<{bare}>" not in vocabulary else f"<my-{bare}>"
            message = f"The model knows the word {name!r} already: give {remedy!r} as the identifier."
            raise LookforwardError(message, code="identifier-known")
        room = tokenizer.model_max_length - 2  # but for the marks of a prompt's start and end
        if not 1 <= word.vectors <= room:
            message = f"adapter.vectors = {word.vectors} must be in [1, {room}], the length of a prompt."
            raise LookforwardError(message, code="setting-range")
        # A prompt's "<a>" would be expanded by another word of the name "<a>_1"
        following = f"{name}_{word.vectors}"
        if tokens.count(name) > 1 or following in tokens or following in vocabulary:
            message = f"The identifier {name!r} is taken, or another one continues it: give each word its own."
            raise LookforwardError(message, code="identifier-twice")
    return tokens
