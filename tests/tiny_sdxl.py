"""A tiny Stable Diffusion XL with random weights: the classes of the real one, small enough for a test."""

from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from conftest import CAPTIONS
from lookforward_toybox.training.tokenizer import build_tokenizer


def make_sdxl(prediction: str = "epsilon", zeros: bool = True, **unet: Any) -> StableDiffusionXLPipeline:
    """32-pixel images, 8×8 latents, and all parts of the real one, with random weights."""
    torch.manual_seed(0)
    tokenizer: Any = build_tokenizer(CAPTIONS)

    def words(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length, projection_dim=12,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip

    of_unet: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "cross_attention_dim": 16 + 24,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 12,
    }
    of_vae: dict[str, Any] = {
        "block_out_channels": (8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 32,
        "scaling_factor": 0.7,
    }
    # What diffusers' annotations call a list of schedulers
    scheduler: Any = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading", prediction_type=prediction,
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        unet=UNet2DConditionModel(**of_unet | unet),
        scheduler=scheduler,
        vae=AutoencoderKL(**of_vae),
        text_encoder=CLIPTextModel(words(16)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(words(24)),
        tokenizer_2=build_tokenizer(CAPTIONS),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        module.requires_grad_(False).eval()
    return pipeline
