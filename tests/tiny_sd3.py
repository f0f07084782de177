"""A tiny Stable Diffusion 3 with random weights: the classes of the real one, small enough for a test."""
# diffusers types these parameters more narrowly than it takes them
# pyright: reportArgumentType=false

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from conftest import CAPTIONS
from lookforward_toybox.training.tokenizer import build_tokenizer


def make_sd3(t5: bool = True, shift: float = 3.0, heads: int = 2) -> StableDiffusion3Pipeline:
    """32-pixel images, 8×8 latents, and all parts of the real one, with random weights."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(CAPTIONS)
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length, projection_dim=12,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in sorted({word for caption in CAPTIONS for word in caption.split()})]
    pieces += [(chr(letter), -3.0) for letter in range(97, 123)]
    t5_config = T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=heads, joint_attention_dim=32, caption_projection_dim=8 * heads, pooled_projection_dim=24,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    for parameter in transformer.parameters():  # its last layer begins at zero, and would hide what comes before
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=CLIPTextModelWithProjection(clip),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(clip),
        tokenizer_2=build_tokenizer(CAPTIONS),
        text_encoder_3=T5EncoderModel(t5_config) if t5 else None,
        tokenizer_3=T5Tokenizer(vocab=pieces, extra_ids=0) if t5 else None,
    )
    pipeline.set_progress_bar_config(disable=True)
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        if (module := getattr(pipeline, name)) is not None:
            module.requires_grad_(False).eval()
    return pipeline
