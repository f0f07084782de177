"""A tiny FLUX.2 [klein] and [dev] with random weights: the classes of the real ones, small enough for a test."""
# diffusers and transformers type these parameters more narrowly than they take them
# pyright: reportArgumentType=false

from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from conftest import vae_blocks
from families import settle

# As Qwen3's own begins and ends a message without thoughts; Mistral's has a system message
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{% for part in message.content %}{{ part.text }}"
    "{% endfor %}{% endfor %}"
)
LEVELS: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": True}


def letters(*marks: str) -> dict[str, int]:
    """A vocabulary of marks and single bytes."""
    return {name: i for i, name in enumerate([*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())])}


def make_qwen_tokenizer() -> Qwen2Tokenizer:
    marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = Qwen2Tokenizer(vocab=letters(*marks), merges=[], model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks[1:])})
    tokenizer.chat_template = QWEN_CHAT
    return tokenizer


def make_mistral_tokenizer() -> PreTrainedTokenizerFast:
    """What is left of the real model's `PixtralProcessor`, which needs torchvision, where no image is read."""
    marks = ("<unk>", "<s>", "</s>", "<pad>", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    backend = Tokenizer(models.BPE(vocab=letters(*marks), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=list(marks[4:]), model_max_length=2048,
    )  # fmt: skip
    tokenizer.chat_template = MISTRAL_CHAT
    return tokenizer


def _parts(guidance: bool, **transformer: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    of_transformer: dict[str, Any] = {
        "in_channels": 16, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 24, "timestep_guidance_channels": 16,
        "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": guidance,
    }  # fmt: skip
    vae = AutoencoderKLFlux2(**vae_blocks(8, 8), norm_num_groups=4, latent_channels=4, sample_size=32)
    vae.bn.running_mean = torch.randn(16)
    vae.bn.running_var = 0.5 + torch.rand(16)
    return {
        "transformer": Flux2Transformer2DModel(**of_transformer | transformer),
        "scheduler": FlowMatchEulerDiscreteScheduler(**LEVELS),
        "vae": vae,
    }


def make_klein(distilled: bool = False, layers: int = 28, **transformer: Any) -> Flux2KleinPipeline:
    """32-pixel images, 16×16 latents in 8×8 tokens, and all parts of the real one, with random weights."""
    parts, tokenizer = _parts(guidance=False, **transformer), make_qwen_tokenizer()
    words = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=layers,
        num_attention_heads=1, num_key_value_heads=1, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    pipeline = Flux2KleinPipeline(
        **parts, text_encoder=Qwen3ForCausalLM(words), tokenizer=tokenizer, is_distilled=distilled
    )
    settle(pipeline, "transformer", "vae", "text_encoder")
    return pipeline


def make_dev(**transformer: Any) -> Flux2Pipeline:
    """The same with Mistral, and a transformer that reads the guidance."""
    parts, tokenizer = _parts(guidance=True, **transformer), make_mistral_tokenizer()
    words = Mistral3Config(
        text_config={
            "model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 30, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8,
            "max_position_embeddings": 1024,
        },
        vision_config={
            "model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "head_dim": 8, "image_size": 32, "patch_size": 16,
        },
        image_token_index=4,
    )  # fmt: skip
    encoder = Mistral3ForConditionalGeneration(words)
    pipeline = Flux2Pipeline(**parts, text_encoder=encoder, tokenizer=tokenizer)
    settle(pipeline, "transformer", "vae", "text_encoder")
    return pipeline
