"""LoRA (Hu et al., 2022) and DoRA (Liu et al., 2024): what they are to users; `low_rank.py` holds the layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.core.specs import AdapterSpec, ExportFormat

if TYPE_CHECKING:
    import torch

    from lookforward.adapters.low_rank import LoraAdapter


def _build(settings: Any, generator: torch.Generator) -> LoraAdapter:
    from lookforward.adapters.low_rank import LoraAdapter

    chosen = settings.adapter
    return LoraAdapter(chosen.rank, chosen.alpha, chosen.train_text_encoder, chosen.name == DORA.name, generator)


def _load(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    from lookforward.adapters.low_rank import load_lora

    load_lora(pipeline, folder, strength)


def _merge(pipeline: Any, folder: Path, strength: float) -> None:
    from lookforward.adapters.low_rank import merge_lora

    merge_lora(pipeline, folder, strength)


def _write_kohya(export: Path, folder: Path, name: str, subject: str) -> None:
    from lookforward.adapters.kohya import write_kohya

    write_kohya(export, folder / f"{name}.safetensors", subject)


LORA = AdapterSpec(
    name="lora",
    label="LoRA",
    help="a LoRA",
    build=_build,
    usage=lambda _: ['pipeline.load_lora_weights("FOLDER")'],
    load=_load,
    merge=_merge,
    formats=(
        ExportFormat(
            "kohya",
            _write_kohya,
            "ComfyUI: put `{name}.safetensors` into `models/loras` and load it with the node LoraLoader. A1111: put it "
            "into\n`models/Lora` and write `<lora:{name}:1>` in the prompt.",
        ),
    ),
    defaults={  # as diffusers' train_dreambooth_lora trains it
        "adapter": {"train_text_encoder": False, "rank": 4, "alpha": 4.0},
        "optimizer": {"learning_rate": 1e-4},
        "run": {"steps": 500},
        "family": {
            "toybox": {
                "adapter": {"train_text_encoder": True, "rank": 8, "alpha": 8.0},
                "optimizer": {"learning_rate": 2e-3},
                "run": {"steps": 300},
            }
        },
    },
    settings=("adapter.rank", "adapter.alpha"),
)
DORA = replace(LORA, name="dora", label="DoRA", help="a DoRA")
