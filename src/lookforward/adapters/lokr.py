"""LoKr (Yeh et al., 2024): a Kronecker product of a small matrix and a low-rank one, C ⊗ (BA)."""

from pathlib import Path
from typing import Any

import torch
from peft import LoKrConfig

from lookforward.adapters.lora import check_rank
from lookforward.adapters.peft_layers import PeftAdapter, bake
from lookforward.errors import LookforwardError


def build_lokr(settings: Any, generator: torch.Generator) -> PeftAdapter:
    """The adapter of a run's settings. Raises LookforwardError for a number that is out of range."""
    chosen = settings.adapter
    check_rank(chosen.rank, chosen.alpha)
    if chosen.lokr_factor < 2 and chosen.lokr_factor != -1:
        raise LookforwardError(
            f"adapter.lokr_factor = {chosen.lokr_factor} must be at least 2, or -1.", code="setting-range"
        )
    options = {"r": chosen.rank, "alpha": chosen.alpha, "decompose_factor": chosen.lokr_factor}
    return PeftAdapter(LoKrConfig, options, chosen.train_text_encoder, chosen.layers, generator)


def bake_lokr(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `peft_layers.bake`."""
    bake(pipeline, folder, strength, LoKrConfig, ("lokr_w1", "lokr_w1_a"))
