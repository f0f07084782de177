"""Custom Diffusion (Kumari et al., 2023): a new word, and the keys and values of the denoiser's cross-attentions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.adapters.textual_inversion import usage
from lookforward.core.specs import AdapterSpec

if TYPE_CHECKING:
    import torch

    from lookforward.adapters.projections import ProjectionAdapter


def _build(settings: Any, _: torch.Generator) -> ProjectionAdapter:
    from lookforward.adapters.projections import ProjectionAdapter
    from lookforward.adapters.words import words_of

    return ProjectionAdapter(words_of(settings))


def _load(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    from lookforward.adapters.projections import load_projections

    load_projections(pipeline, folder, strength)


def _usage(words: int) -> list[str]:
    from lookforward.adapters.projections import WEIGHTS
    from lookforward.models.families.sd import SD

    return [
        f'pipeline.{SD.denoiser}.load_attn_procs("FOLDER", weight_name="{WEIGHTS}", _pipeline=pipeline)',
        *usage(words),
    ]


CUSTOM_DIFFUSION = AdapterSpec(
    name="custom-diffusion",
    label="Custom Diffusion",
    help="Custom Diffusion: keys and values of the cross-attentions, and a learned word",
    build=_build,
    usage=_usage,
    load=_load,
    merge=_load,
    defaults={  # as diffusers trains it: 1e-5 for each photo and class image of a step
        "subject": {"identifier": "<new1>"},
        "data": {"class_images": 200},
        "adapter": {"initial_word": "ktn"},
        "optimizer": {"learning_rate": 4e-5},
        "run": {"steps": 250, "batch_size": 2},
        "family": {
            "toybox": {
                "data": {"class_images": 32},
                "adapter": {"initial_word": "zwx"},
                "optimizer": {"learning_rate": 1e-3},
                "run": {"steps": 300, "batch_size": 1},
            }
        },
    },
    settings=("adapter.initial_word",),
    learns_word=True,
    replaces=True,
    needs=frozenset({"cross-attention", "learned-words"}),
    dpok=False,
)
