"""Settings of the pretrained model and its memory use; see docs/memory.md."""

from dataclasses import dataclass
from typing import Literal

from lookforward.bundle import TOYBOX
from lookforward.config.spec import setting

Precision = Literal["fp32", "bf16"]
Weights = Literal["fp32", "bf16", "int8", "fp8", "nf4"]


@dataclass(frozen=True)
class ModelSettings:
    """The pretrained model and where it runs."""

    name: str = setting(TOYBOX, "A bundled model (toybox, toybox-sd), a pipeline folder or a hub ID.")
    revision: str = setting("", "Branch, tag or commit of a hub ID. Empty: the main branch.")
    precision: Precision = setting("fp32", "Number format of the forward pass.", headline=True)
    weights: Weights = setting(
        "fp32",
        "Number format of the frozen weights; trained weights stay in fp32. int8 and fp8 need torchao, nf4 needs "
        "bitsandbytes.",
    )
    allow_distilled: bool = setting(
        False, "Allow training a model that was distilled to sample in a few steps.", free=True
    )
    device: str = setting("auto", "cpu, cuda, mps, or auto for an accelerator if there is one.", machine_only=True)
    gradient_checkpointing: bool = setting(
        False, "Recompute activations instead of storing them: less memory, more time.", machine_only=True
    )
    offload: bool = setting(
        False,
        "Keep the denoiser's blocks in CPU memory, and move each to the device only while it runs.",
        machine_only=True,
    )
    unload: bool = setting(
        False,
        "Move frozen text encoders and the autoencoder to CPU memory while they are not needed.",
        machine_only=True,
    )
    cache: bool = setting(False, "Cache encoded photos and prompts on disk, for later runs.", machine_only=True)
