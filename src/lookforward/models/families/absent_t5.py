"""SD3 without T5 for less: the 256 equal tokens that stand for it are computed as one.

Where a pipeline has no T5, diffusers appends 256 tokens of zeros to CLIP's. Text tokens have no positions, so equal
ones stay equal in every layer, whatever was trained. A softmax over n equal keys is that over one key whose score is
raised by log n. The image tokens are then the same but for rounding, and at 64 of them a step costs a third.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

ABSENT = 256  # tokens of zeros, by the pipeline's own default
MOST_IMAGE_TOKENS = 1024  # beyond, the others are few, and a mask would keep a GPU from its fastest kernel


class FoldedAttention(JointAttnProcessor2_0):
    """SD3's joint attention. With `length` + 1 text tokens, the last one stands for ABSENT equal ones."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *args: Any, **settings: Any
    ) -> Any:
        """Image tokens (b, n, d) and text tokens (b, l, d) to the same."""
        image, text = hidden_states, encoder_hidden_states
        if text is None or text.shape[1] != self.length + 1:
            return super().__call__(attn, image, text, *args, **settings)  # pyright: ignore[reportArgumentType]

        def heads(tokens: Tensor, norm: nn.Module | None = None) -> Tensor:
            split = tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return split if norm is None else norm(split)

        q = torch.cat([heads(attn.to_q(image), attn.norm_q), heads(attn.add_q_proj(text), attn.norm_added_q)], dim=2)
        k = torch.cat([heads(attn.to_k(image), attn.norm_k), heads(attn.add_k_proj(text), attn.norm_added_k)], dim=2)
        v = torch.cat([heads(attn.to_v(image)), heads(attn.add_v_proj(text))], dim=2)
        raised = torch.zeros(1, 1, 1, k.shape[2], dtype=q.dtype, device=q.device)
        raised[..., -1] = math.log(ABSENT)
        seen = scaled_dot_product_attention(q, k, v, attn_mask=raised.expand(-1, -1, q.shape[2], -1))
        seen, read = seen.transpose(1, 2).flatten(2).split((image.shape[1], text.shape[1]), dim=1)
        if not attn.context_pre_only:
            read = attn.to_add_out(read)
        return attn.to_out[1](attn.to_out[0](seen)), read


def fold_absent_t5(pipeline: Any) -> None:
    """Have the transformer of an SD3 pipeline without T5 compute the tokens in its place as one, from now on.

    Only while the pipeline is the plain one, whose last ABSENT tokens are zeros: one that is shown photos puts its own
    tokens there. Other attention processors than diffusers' own are left alone. A pipeline that has T5 stays as it is.
    """
    network = pipeline.transformer
    plain = [block.attn for block in network.transformer_blocks if type(block.attn.processor) is JointAttnProcessor2_0]
    if pipeline.text_encoder_3 is not None or len(plain) < len(network.transformer_blocks):
        return
    length = pipeline.tokenizer_max_length
    for attention in plain:
        attention.set_processor(FoldedAttention(length))
    owner = weakref.ref(pipeline)

    def fold(module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        text, latents = given.get("encoder_hidden_states"), given.get("hidden_states")
        if text is None or latents is None or type(owner()) is not StableDiffusion3Pipeline:
            return None
        processors = {type(block.attn.processor) for block in module.transformer_blocks}
        tokens = latents.shape[-1] * latents.shape[-2] // module.config["patch_size"] ** 2
        if text.shape[1] != length + ABSENT or processors != {FoldedAttention} or tokens > MOST_IMAGE_TOKENS:
            return None
        return args, given | {"encoder_hidden_states": text[:, : length + 1]}

    network.register_forward_pre_hook(fold, with_kwargs=True)
