"""OFT (Qiu et al., 2023): a layer's inputs are rotated, in blocks; angles between its neurons stay as they are."""

from pathlib import Path
from typing import Any

import torch
from peft import OFTConfig

from lookforward.adapters.peft_layers import PeftAdapter, bake


def build_oft(settings: Any, generator: torch.Generator) -> PeftAdapter:
    """The adapter of a run's settings."""
    chosen = settings.adapter
    options = {"r": 0, "oft_block_size": chosen.oft_block_size}
    return PeftAdapter(OFTConfig, options, chosen.train_text_encoder, chosen.layers, generator)


def bake_oft(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """See `peft_layers.bake`: at a strength between, all rotations go that share of their way."""
    bake(pipeline, folder, strength, OFTConfig, ("oft_R.weight",))
