"""Build the tokenizer of Toybox: byte-level BPE, as CLIP's, in which every caption word is one token."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 32
# Words that no caption contains: free as identifiers, as "sks" is in Stable Diffusion.
IDENTIFIERS = ("sks", "zwx", "olis", "ohwx", "qxj", "vbk", "wuf", "plq")

Pair = tuple[str, str]


def merge_word(pieces: list[str], ranks: dict[Pair, int]) -> list[str]:
    """Apply the learned merges to one word, lowest rank first, as BPE does."""
    while True:
        known = [pair for pair in pairwise(pieces) if pair in ranks]
        if not known:
            return pieces
        best = min(known, key=ranks.__getitem__)
        merged: list[str] = []
        index = 0
        while index < len(pieces):
            if tuple(pieces[index : index + 2]) == best:
                merged.append("".join(best))
                index += 2
            else:
                merged.append(pieces[index])
                index += 1
        pieces = merged


def learn_merges(words: Iterable[str]) -> list[Pair]:
    """Merges which make every word one token.

    Each word is first merged by what is known, then the rest is joined from the left. Later
    merges rank lower, so they never disturb an earlier word.
    """
    ranks: dict[Pair, int] = {}
    for word in words:
        pieces = merge_word([*word[:-1], word[-1] + "</w>"], ranks)
        while len(pieces) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
            pieces = merge_word(pieces, ranks)
    return list(ranks)


def split_words(texts: Iterable[str]) -> list[str]:
    """Distinct words, as CLIP splits and spells them (bytes as letters), in order of appearance."""
    backend = CLIPTokenizer().backend_tokenizer
    words: dict[str, None] = {}
    for text in dict.fromkeys(texts):
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            words[word] = None
    return list(words)


def build_tokenizer(
    captions: Iterable[str], extra: Iterable[str] = (), identifiers: Sequence[str] = IDENTIFIERS
) -> CLIPTokenizer:
    """A CLIPTokenizer of 32 positions in which each word of captions, extra and identifiers is one token.

    Other text is spelled in parts, byte by byte if need be, so any text encodes.
    """
    words = split_words([*captions, *extra, *identifiers])
    merges = learn_merges(words)
    alphabet = sorted(ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet)])
    tokens |= dict.fromkeys("".join(pair) for pair in merges)
    tokens |= dict.fromkeys([START, END])  # last, as in CLIP
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs: Any = merges  # annotated as strings, used as pairs
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=LENGTH)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write what transformers loads, and vocab.json with merges.txt, which older readers want."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))


def encode(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (n, 32) of texts, padded and cut as StableDiffusionPipeline does."""
    ids = tokenizer(list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
    return torch.tensor(ids, dtype=torch.int32)


def encode_captions(tokenizer: CLIPTokenizer, captions: Sequence[Sequence[str]]) -> Tensor:
    """Token ids (n, v, 32) of n images with v caption variants each."""
    variants = min(len(c) for c in captions)
    distinct: dict[str, int] = {}
    rows = [[distinct.setdefault(text, len(distinct)) for text in c[:variants]] for c in captions]
    return encode(tokenizer, list(distinct))[torch.tensor(rows)]


def pick_captions(tokens: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    """One random variant for each chosen image: (n, v, 32) and (b,) to (b, 32) int64."""
    variant = torch.randint(tokens.shape[1], index.shape, generator=generator)
    return tokens[index, variant].long()
