"""The settings of the pretrained model, and of the memory that it takes. docs/memory.md explains the latter."""

from dataclasses import dataclass
from typing import Literal

from lookforward.bundle import TOYBOX
from lookforward.config.spec import setting

Precision = Literal["fp32", "bf16"]
Weights = Literal["fp32", "bf16", "int8", "fp8", "nf4"]


@dataclass(frozen=True)
class ModelSettings:
    """The pretrained model and where it computes."""

    name: str = setting(TOYBOX, "The bundled toybox, a pipeline folder or a hub id.")
    precision: Precision = setting("fp32", "Number format of the forward pass.", headline=True)
    weights: Weights = setting(
        "fp32",
        "Number format of frozen weights; those that are trained stay in single precision. int8 and fp8 need torchao, "
        "nf4 bitsandbytes.",
    )
    allow_distilled: bool = setting(False, "Train a model that was distilled to draw in a few steps.", free=True)
    device: str = setting("auto", "cpu, cuda, mps, or auto for an accelerator if there is one.", machine_only=True)
    gradient_checkpointing: bool = setting(
        False, "Recompute activations instead of storing them: less memory, more time.", machine_only=True
    )
    offload: bool = setting(
        False,
        "Keep the denoiser's blocks in the CPU's memory, and each on the device only while it computes.",
        machine_only=True,
    )
    unload: bool = setting(
        False,
        "Keep frozen text encoders and the autoencoder in the CPU's memory while nothing needs them.",
        machine_only=True,
    )
    cache: bool = setting(
        False, "Keep encoded photos and prompts on disk, so that another run need not encode them.", machine_only=True
    )
