"""Learned words: tokens of their own in a pipeline's tokenizer, with trainable embeddings in its text encoder.

`add_words` puts them in to be trained, `remove_words` takes them out again, object for object, and `load_words` loads
trained ones. The model's own vocabulary is never touched: new rows are parameters of their own beside it, so that an
optimizer and a checkpoint hold nothing else.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.families import family_of
from lookforward.models.policy import DiffusionPolicy

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


@dataclass(frozen=True)
class WordAdapter:
    """Textual Inversion: the rows of new words are all that is trained.

    The export is `learned_embeds.safetensors`, which `pipeline.load_textual_inversion(folder)` reads; with several
    words, the second is in `learned_embeds_2.safetensors`, and so on.

    Raises:
        LookforwardError: when attached, see `add_words`.
    """

    words: tuple[Word, ...]

    @property
    def changes_prompts(self) -> bool:
        return True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        for module in policy.components.values():
            module.requires_grad_(False)
        return add_words(policy.pipeline, self.words).named_rows()

    def detach(self, policy: DiffusionPolicy) -> None:
        remove_words(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_words(word_table(policy.pipeline), folder)


def words_of(settings: Any, vectors: int = 1) -> tuple[Word, ...]:
    """The words that a run's settings ask for, one for each subject."""
    from lookforward.data.subjects import subjects_of

    first = settings.adapter.initial_word
    return tuple(Word(name, first or noun, vectors) for name, noun in subjects_of(settings))


def text_parts(pipeline: Any) -> tuple[Any, Any]:
    """The text encoder and the tokenizer that words are added to.

    Raises:
        LookforwardError: the pipeline has several.
    """
    family = family_of(pipeline)
    if "learned-words" not in family.capabilities:
        raise LookforwardError(f"A model of {family.label} cannot learn words.", code="adapter-family")
    return getattr(pipeline, family.text_encoders[0]), getattr(pipeline, family.tokenizers[0])


def _set_tokenizer(pipeline: Any, tokenizer: Any) -> None:
    setattr(pipeline, family_of(pipeline).tokenizers[0], tokenizer)


def add_words(pipeline: Any, words: Sequence[Word]) -> WordTable:
    """Add words to the pipeline's tokenizer and text encoder; returns their rows, which require gradients.

    The tokenizer is replaced by a copy that knows the words.

    Raises:
        LookforwardError: an identifier is a word the model knows already, or is given twice; a first word is nothing
            to the tokenizer; a word has more vectors than a prompt has room for, or is not read as it is written.
    """
    encoder, original = text_parts(pipeline)
    if isinstance(encoder.get_input_embeddings(), WordTable):
        message = "This pipeline has an adapter of words already: detach it, or load the pipeline again."
        raise LookforwardError(message, code="word-second")
    tokens = check_words(original, words)
    rows = [initial_vector(pipeline, word.initial_word).repeat(word.vectors, 1) for word in words]
    table = WordTable(encoder.get_input_embeddings(), original, words, rows, first=len(original))
    tokenizer = copy.deepcopy(original)
    tokenizer.add_tokens(tokens)
    for word in words:
        read = tokenizer(pipeline.maybe_convert_prompt(word.identifier, tokenizer), add_special_tokens=False).input_ids
        if read != tokenizer.convert_tokens_to_ids(word.tokens):  # CLIP reads lower case
            raise LookforwardError(
                f"The tokenizer changes the identifier {word.identifier!r}: write it in lower case, such as '<sks>'.",
                code="identifier-unreadable",
            )
    _set_tokenizer(pipeline, tokenizer)
    encoder.set_input_embeddings(table)
    return table


def word_table(pipeline: Any) -> WordTable:
    """The words that an adapter has added to a pipeline.

    Raises:
        LookforwardError: none; no adapter of words is attached.
    """
    table = text_parts(pipeline)[0].get_input_embeddings()
    if not isinstance(table, WordTable):
        raise LookforwardError("This pipeline has no learned word: attach the adapter first.", code="word-missing")
    return table


def remove_words(pipeline: Any) -> None:
    """Put back the tokenizer and the token embedding that `add_words` found. Without words, does nothing."""
    encoder, _ = text_parts(pipeline)
    table = encoder.get_input_embeddings()
    if isinstance(table, WordTable):
        _set_tokenizer(pipeline, table.tokenizer)
        encoder.set_input_embeddings(table.base)


def initial_vector(pipeline: Any, initial_word: str) -> Tensor:
    """(d,): a copy of a known word's embedding, the mean where it is several tokens.

    Raises:
        LookforwardError: the word is nothing to the tokenizer.
    """
    encoder, tokenizer = text_parts(pipeline)
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
            message = f"adapter.vectors = {word.vectors} must lie in [1, {room}], the length of a prompt."
            raise LookforwardError(message, code="setting-range")
        # A prompt's "<a>" would be expanded by another word of the name "<a>_1"
        following = f"{name}_{word.vectors}"
        if tokens.count(name) > 1 or following in tokens or following in vocabulary:
            message = f"The identifier {name!r} is taken, or another one continues it: give each word its own."
            raise LookforwardError(message, code="identifier-twice")
    return tokens


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
