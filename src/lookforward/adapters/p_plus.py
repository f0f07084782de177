"""P+ (Voynov et al. 2023, arXiv 2303.09522): one embedding of the new word for each cross-attention layer.

A vector of the text encoder's width for each layer: 16 × 768 in Stable Diffusion 1.4. The model is frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.core.specs import AdapterSpec

if TYPE_CHECKING:
    import torch

    from lookforward.adapters.layered_words import PPlusAdapter

UNMERGEABLE = "its word looks different to each layer"
PIPELINE = 'custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True'


def _build(settings: Any, _: torch.Generator) -> PPlusAdapter:
    from lookforward.adapters.layered_words import PPlusAdapter

    return PPlusAdapter(settings.subject.identifier, settings.adapter.initial_word or settings.subject.class_noun)


def _load(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    from lookforward.adapters.layered_words import LayerWords, read_word

    read_word(pipeline, folder, LayerWords.kind, strength)


P_PLUS = AdapterSpec(
    name="p-plus",
    label="P+",
    help="P+: a learned word with an embedding for each cross-attention",
    build=_build,
    usage=lambda _: ['pipeline.load_concept("FOLDER")'],
    pipeline_options=PIPELINE,
    load=_load,
    unmergeable=UNMERGEABLE,
    defaults={  # no prior preservation; the word stands for the subject
        "subject": {"identifier": "<sks>", "noun_in_prompt": False},
        "adapter": {"train_text_encoder": False},
        "optimizer": {"learning_rate": 5e-3},
        "objective": {"prior_weight": 0.0},
        "run": {"steps": 500, "batch_size": 8},
        "family": {"toybox": {"optimizer": {"learning_rate": 1e-2}, "run": {"steps": 300, "batch_size": 4}}},
    },
    settings=("adapter.initial_word",),
    learns_word=True,
    only_words=True,
    several_subjects=False,
    needs=frozenset({"cross-attention", "learned-words"}),
    dpok=False,
)
