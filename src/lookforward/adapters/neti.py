"""NeTI (Alaluf et al. 2023, arXiv 2305.15391): a small network predicts the new word's embedding.

At each timestep and for each cross-attention layer, and what is added to it behind the text encoder: 235,776 weights in
Stable Diffusion 1.4 at width 128. The model is frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.adapters.p_plus import PIPELINE, UNMERGEABLE
from lookforward.core.specs import AdapterSpec

if TYPE_CHECKING:
    import torch

    from lookforward.adapters.layered_words import NetiAdapter


def _build(settings: Any, generator: torch.Generator) -> NetiAdapter:
    from lookforward.adapters.layered_words import NetiAdapter

    chosen, subject = settings.adapter, settings.subject
    return NetiAdapter(
        subject.identifier,
        chosen.initial_word or subject.class_noun,
        chosen.neti_width,
        chosen.neti_bypass,
        chosen.neti_dropout,
        generator,
    )


def _load(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    from lookforward.adapters.layered_words import SpaceTimeWords, read_word

    read_word(pipeline, folder, SpaceTimeWords.kind, strength)


NETI = AdapterSpec(
    name="neti",
    label="NeTI",
    help="NeTI: a learned word whose embedding depends on timestep and layer",
    build=_build,
    usage=lambda _: ['pipeline.load_concept("FOLDER")'],
    pipeline_options=PIPELINE,
    load=_load,
    unmergeable=UNMERGEABLE,
    defaults={  # no prior preservation; the word stands for the subject
        "subject": {"identifier": "<sks>", "noun_in_prompt": False},
        "adapter": {"train_text_encoder": False},
        "optimizer": {"learning_rate": 1e-3},
        "objective": {"prior_weight": 0.0},
        "run": {"steps": 1000, "batch_size": 8},
        "family": {"toybox": {"optimizer": {"learning_rate": 3e-3}, "run": {"steps": 300, "batch_size": 4}}},
    },
    settings=("adapter.initial_word", "adapter.neti_width", "adapter.neti_bypass", "adapter.neti_dropout"),
    learns_word=True,
    only_words=True,
    several_subjects=False,
    needs=frozenset({"cross-attention", "learned-words"}),
    dpok=False,
)
