"""The flow transformer of the 128-pixel models with its text encoder, as both are trained together."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModelWithProjection

from lookforward_toybox.training.attention import attend

ABSENT = (
    256  # tokens of zeros that StableDiffusion3Pipeline appends in place of T5's, unless it is given another number
)


@dataclass(frozen=True)
class TransformerSizes:
    """align: after which layer the image tokens are compared with DINO's patches."""

    layers: int = 6
    heads: int = 8
    head_width: int = 32
    sample: int = 16
    patch: int = 2
    latent_channels: int = 16
    align: int = 3


class CountedAttention:
    """SD3's joint attention in which the last text token stands for `count` equal ones.

    The pipeline appends many tokens of zeros where there is no T5. They stay equal in every layer, so that one with
    log(count) added to its attention scores gives the same image tokens at a fraction of the cost.
    """

    def __init__(self) -> None:
        self.count = float(ABSENT)

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Image tokens (b, n, d) and text tokens (b, l, d) to the same."""

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        def normed(norm: nn.Module | None, x: Tensor) -> Tensor:
            return x if norm is None else norm(x)

        image, text = hidden_states, encoder_hidden_states
        query = (normed(attn.norm_q, heads(attn.to_q(image))), normed(attn.norm_added_q, heads(attn.add_q_proj(text))))
        key = (normed(attn.norm_k, heads(attn.to_k(image))), normed(attn.norm_added_k, heads(attn.add_k_proj(text))))
        value = (heads(attn.to_v(image)), heads(attn.add_v_proj(text)))
        q, k, v = (torch.cat(parts, dim=2) for parts in (query, key, value))
        bias = torch.zeros(k.shape[2], dtype=q.dtype, device=q.device)
        bias[-1] = math.log(self.count)
        seen, read = attend(q, k, v, bias).transpose(1, 2).flatten(2).split((image.shape[1], text.shape[1]), dim=1)
        if not attn.context_pre_only:
            read = attn.to_add_out(read)
        return attn.to_out[1](attn.to_out[0](seen)), read


def make_transformer(sizes: TransformerSizes, text_width: int, pooled_width: int) -> SD3Transformer2DModel:
    """A transformer that starts as the identity: what modulates and what puts out is zero."""
    width = sizes.heads * sizes.head_width
    model = SD3Transformer2DModel(
        sample_size=sizes.sample,
        patch_size=sizes.patch,
        in_channels=sizes.latent_channels,
        out_channels=sizes.latent_channels,
        num_layers=sizes.layers,
        attention_head_dim=sizes.head_width,
        num_attention_heads=sizes.heads,
        joint_attention_dim=text_width,
        caption_projection_dim=width,
        pooled_projection_dim=pooled_width,
        pos_embed_max_size=sizes.sample // sizes.patch,
        qk_norm="rms_norm",
    )
    still: list[Any] = [model.norm_out.linear, model.proj_out]
    blocks: Any = model.transformer_blocks
    for block in blocks:
        still += [block.norm1.linear, block.norm1_context.linear]
    for layer in still:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


class FlowModel(nn.Module):
    """Transformer, the text encoder that it uses twice, and the projection that is aligned with DINO."""

    def __init__(
        self,
        sizes: TransformerSizes,
        transformer: SD3Transformer2DModel,
        text: CLIPTextModelWithProjection,
        features: int = 0,
    ) -> None:
        """features: width of DINO's tokens; 0 for no alignment."""
        super().__init__()
        self.transformer, self.text = transformer, text
        width = sizes.heads * sizes.head_width
        self.align = (
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, features)) if features else None
        )
        self.attention = CountedAttention()
        self.transformer.set_attn_processor(self.attention)  # pyright: ignore[reportArgumentType]
        self._middle: list[Tensor] = []
        self.transformer.transformer_blocks[sizes.align - 1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        self._middle[:] = [output[1]]

    def conditioning(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (b, l) to what the pipeline makes of them: (b, l + 1, 2d), the last one zeros, and (b, 2p)."""
        out = self.text(ids, output_hidden_states=True)
        tokens = torch.cat([out.hidden_states[-2]] * 2, dim=-1)
        return F.pad(tokens, (0, 0, 0, 1)), torch.cat([out.text_embeds] * 2, dim=-1)

    def forward(self, x_t: Tensor, sigma: Tensor, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predicted velocity (b, c, h, w) at noise levels (b,) in [0, 1] for tokens (b, l), and the middle layer's
        image tokens projected into DINO's space, (b, n, features)."""
        tokens, pooled = self.conditioning(ids)
        velocity = self.transformer(
            hidden_states=x_t, timestep=sigma * 1000, encoder_hidden_states=tokens, pooled_projections=pooled
        ).sample.float()
        return velocity, None if self.align is None else self.align(self._middle[0]).float()


def text_of_clip(clip: CLIPModel) -> CLIPTextModelWithProjection:
    """The text half of a CLIP, with its projection."""
    config: Any = clip.config.text_config
    model = CLIPTextModelWithProjection(config)
    wanted = {k: v for k, v in clip.state_dict().items() if k.startswith(("text_model.", "text_projection."))}
    model.load_state_dict(wanted)
    return model


def text_widths(text: CLIPTextModelWithProjection) -> tuple[int, int]:
    """Width of the tokens and of the pooled vector that the pipeline makes of an encoder which it uses twice."""
    config: Any = text.config
    return 2 * config.hidden_size, 2 * config.projection_dim
