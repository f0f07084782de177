"""LoHa (Hyeon-Woo et al., 2022): the elementwise product of two low-rank changes, (B₁A₁) ∘ (B₂A₂), of rank up to r²."""

from pathlib import Path
from typing import Any

import torch
from peft import LoHaConfig

from lookforward.adapters.lora import check_rank
from lookforward.adapters.peft_layers import PeftAdapter, bake


def build_loha(settings: Any, generator: torch.Generator) -> PeftAdapter:
    """The adapter of a run's settings. Raises LookforwardError for a rank or an alpha that is out of range."""
    chosen = settings.adapter
    check_rank(chosen.rank, chosen.alpha)
    options = {"r": chosen.rank, "alpha": chosen.alpha}
    return PeftAdapter(LoHaConfig, options, chosen.train_text_encoder, chosen.layers, generator)


def bake_loha(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `peft_layers.bake`."""
    bake(pipeline, folder, strength, LoHaConfig, ("hada_w1_a",))
