"""Textual Inversion (Gal et al., 2023): a new word is all that is learned; the model stays as it is.

The token embeddings of new words: 768 numbers for each vector in Stable Diffusion 1.4.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.core.specs import AdapterSpec, ExportFormat

if TYPE_CHECKING:
    import torch

    from lookforward.adapters.words import WordAdapter

LOADING = (
    "ComfyUI: put the file into `models/embeddings` and write `embedding:NAME` in the prompt, NAME being that of the "
    "file\nwithout its ending. A1111: put it into `embeddings` and write NAME."
)


def _build(settings: Any, _: torch.Generator) -> WordAdapter:
    from lookforward.adapters.words import WordAdapter, words_of

    return WordAdapter(words_of(settings, settings.adapter.vectors))


def _load(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    from lookforward.adapters.words import load_words

    load_words(pipeline, folder, strength)


def _write_a1111(export: Path, folder: Path, *_: str) -> None:
    from lookforward.adapters.words import write_single_words

    write_single_words(export, folder)


def usage(words: int) -> list[str]:
    """The lines that load so many words."""
    files = ["learned_embeds.safetensors", *(f"learned_embeds_{i}.safetensors" for i in range(2, words + 1))]
    return [f'pipeline.load_textual_inversion("FOLDER", weight_name="{file}")' for file in files]


TEXTUAL_INVERSION = AdapterSpec(
    name="textual-inversion",
    label="Textual Inversion",
    help="Textual Inversion: a learned word",
    build=_build,
    usage=usage,
    load=_load,
    merge=_load,
    formats=(ExportFormat("a1111", _write_a1111, LOADING),),
    defaults={  # as diffusers trains it: the word alone, 5e-4 for each photo of a step
        "subject": {"identifier": "<sks>", "noun_in_prompt": False},
        "objective": {"prior_weight": 0.0},
        "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.01},
        "run": {"steps": 3000, "batch_size": 4},
        "family": {"toybox": {"optimizer": {"learning_rate": 1e-2}, "run": {"steps": 300, "batch_size": 1}}},
    },
    settings=("adapter.initial_word", "adapter.vectors"),
    learns_word=True,
    only_words=True,
    needs=frozenset({"learned-words"}),
    dpok=False,
    tag="textual_inversion",
)
