"""A tiny FLUX.1 with random weights: the classes of the real one, small enough for a test."""
# diffusers types these parameters more narrowly than it takes them
# pyright: reportArgumentType=false

from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from conftest import CAPTIONS, special_tokens, vae_blocks
from families import make_t5_tokenizer, settle
from lookforward_toybox.training.tokenizer import build_tokenizer

DYNAMIC: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": True}  # as in FLUX.1-dev


def make_flux(guidance: bool = True, scheduler: dict[str, Any] = DYNAMIC, **transformer: Any) -> FluxPipeline:
    """32-pixel images, 8×8 latents in 4×4 tokens, and all parts of the real one, with random weights."""
    torch.manual_seed(0)
    tokenizer, tokenizer_2 = build_tokenizer(CAPTIONS), make_t5_tokenizer()
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length, **special_tokens(tokenizer),
    )  # fmt: skip
    t5 = T5Config(vocab_size=len(tokenizer_2), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    of_transformer: dict[str, Any] = {
        "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 16,
        "guidance_embeds": guidance, "axes_dims_rope": (4, 6, 6),
    }  # fmt: skip
    pipeline = FluxPipeline(
        transformer=FluxTransformer2DModel(**of_transformer | transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
        vae=AutoencoderKL(
            **vae_blocks(8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=32, scaling_factor=1.5,
            shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False,
        ),
        text_encoder=CLIPTextModel(clip),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=tokenizer_2,
    )  # fmt: skip
    settle(pipeline, "transformer", "vae", "text_encoder", "text_encoder_2")
    pipeline.vae.encoder.conv_out.bias[4:] = -10.0  # a posterior as narrow as a trained autoencoder's
    return pipeline
