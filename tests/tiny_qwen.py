"""A tiny Z-Image and a tiny Qwen-Image with random weights: the classes of the real ones, small enough for a test."""

import json
import math
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
)

from conftest import CAPTIONS, vae_blocks
from families import settle

# As Qwen's own begins and ends; tools and earlier turns are left out
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
# The scheduler of Qwen-Image-Lightning: one shift for all sizes
LIGHTNING: dict[str, Any] = {"base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None}
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> Any:
    """Byte-level BPE, as Qwen's, of some hundred tokens learned from the captions."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer: Any = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator([*CAPTIONS, "user assistant system"], trainer)
    vocabulary = backend.get_vocab()
    merges: Any = [tuple(pair) for pair in _merges(backend)]
    made: Any = Qwen2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=2048, padding_side="right")
    made.add_special_tokens({"additional_special_tokens": MARKS[1:]})
    made.chat_template = chat_template
    return made


def _merges(backend: Tokenizer) -> list[list[str]]:
    return json.loads(backend.to_str())["model"]["merges"]


def frozen(pipeline: Any) -> Any:
    settle(pipeline, "transformer", "vae", "text_encoder")
    return pipeline


def make_z_image(shift: float = 6.0, chat_template: str | None = CHAT_TEMPLATE, **transformer: Any) -> Any:
    """32-pixel images, 8×8 latents in 16 tokens, and all parts of the real one, with random weights."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(chat_template)
    words = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    of_transformer: dict[str, Any] = {
        "in_channels": 4, "dim": 16, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
        "cap_feat_dim": 16, "axes_dims": [4, 2, 2], "axes_lens": [1024, 64, 64],
    }  # fmt: skip
    return frozen(
        ZImagePipeline(
            transformer=ZImageTransformer2DModel(**of_transformer | transformer),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
            vae=AutoencoderKL(
                **vae_blocks(8, 8, 8),
                norm_num_groups=4,
                latent_channels=4,
                sample_size=32,
                scaling_factor=1.5,
                shift_factor=0.06,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            text_encoder=Qwen3Model(words),
            tokenizer=tokenizer,
        )
    )


def make_qwen_image(scheduler: dict[str, Any] | None = None, **transformer: Any) -> Any:
    """32-pixel images, 8×8 latents in 16 tokens, and all parts of the real one, with random weights."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    words = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
            "bos_token_id": None, "eos_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
    )  # fmt: skip
    of_transformer: dict[str, Any] = {
        "in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2,
        "joint_attention_dim": 16, "axes_dims_rope": (4, 2, 2),
    }  # fmt: skip
    levels: dict[str, Any] = {  # those of Qwen/Qwen-Image
        "base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9,
        "shift_terminal": 0.02, "use_dynamic_shifting": True,
    }  # fmt: skip
    return frozen(
        QwenImagePipeline(
            transformer=QwenImageTransformer2DModel(**of_transformer | transformer),
            scheduler=FlowMatchEulerDiscreteScheduler(**levels | (scheduler or {})),
            vae=AutoencoderKLQwenImage(
                base_dim=8, z_dim=4, dim_mult=[1, 1, 2], num_res_blocks=1, temperal_downsample=[False, True],
                latents_mean=[-0.7, 0.1, 0.3, 0.9], latents_std=[2.8, 1.4, 0.6, 1.1],
            ),
            text_encoder=Qwen2_5_VLForConditionalGeneration(words),
            tokenizer=tokenizer,
        )
    )  # fmt: skip
