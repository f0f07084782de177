"""Prompts with learned words of several vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def written_out(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Prompts in which each learned word of several vectors is written out: "<sks>" becomes "<sks> <sks>_1".

    As diffusers' pipelines do themselves if they have `TextualInversionLoaderMixin`, with a tokenizer of their own.
    """
    from diffusers.loaders import TextualInversionLoaderMixin

    written = TextualInversionLoaderMixin().maybe_convert_prompt(list(prompts), tokenizer)
    return [written] if isinstance(written, str) else written


def loads_words(pipeline: Any) -> bool:
    """Whether a pipeline, or a class of pipelines, has diffusers' loader of learned words and writes them out."""
    return hasattr(pipeline, "load_textual_inversion")
