"""Stable Diffusion 1 and 2: a UNet with cross-attention, one CLIP text encoder, a variance-preserving path."""

from collections.abc import Mapping
from typing import Any


class StableDiffusion:
    """The family of `StableDiffusionPipeline`."""

    name: str = "sd"
    label: str = "Stable Diffusion 1 and 2"
    pipeline_class: str = "StableDiffusionPipeline"
    denoiser: str = "unet"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    optional: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset({"cross-attention", "learned-words"})
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora of diffusers adapts
        "unet": ("to_k", "to_out.0", "to_q", "to_v"),
        "text_encoder": ("k_proj", "out_proj", "q_proj", "v_proj"),
    }
    schedulers: Mapping[str, str] = {
        "ddim": "DDIMScheduler",
        "ddpm": "DDPMScheduler",
        "dpm++": "DPMSolverMultistepScheduler",
        "euler": "EulerDiscreteScheduler",
        "unipc": "UniPCMultistepScheduler",
    }
    defaults: Mapping[str, Any] = {}


SD = StableDiffusion()
