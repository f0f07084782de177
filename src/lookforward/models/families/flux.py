"""FLUX.1: a transformer on packed latents, one CLIP vector and T5's tokens, on a flow that large images shift.

The model [dev] was distilled to read the scale of guidance as a number. It is trained at a scale of 1, as diffusers'
train_dreambooth_lora_flux advises (README_flux), and draws at 3.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookforward.core.path import NoisePath
    from lookforward.core.prediction import Prediction
    from lookforward.core.types import CachedLatents, Conditioning, State

_BASE = "black-forest-labs/FLUX.1-dev"
_PATCH = 2  # latents in a token's side
_TOKENS = 512  # of T5, as many as `FluxPipeline` asks for


class Flux:
    """The family of `FluxPipeline`. Only T5 reads the prompt word by word; CLIP gives one vector for all of it."""

    name: str = "flux"
    label: str = "FLUX.1"
    pipeline_class: str = "FluxPipeline"
    denoiser: str = "transformer"
    text_encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")
    tokenizers: tuple[str, ...] = ("tokenizer", "tokenizer_2")
    optional: frozenset[str] = frozenset()
    load_options: Mapping[str, Any] = {}
    capabilities: frozenset[str] = frozenset()  # image and prompt share every attention; two encoders
    word_files: Mapping[str, str] = {}
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora_flux of diffusers adapts
        "transformer": (
            "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out",
            "attn.to_k", "attn.to_out.0", "attn.to_q", "attn.to_v",
            "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
        ),
        "text_encoder": ("k_proj", "out_proj", "q_proj", "v_proj"),
    }  # fmt: skip
    comfyui: Mapping[str, str] = {"transformer": "transformer.", "text_encoder": "text_encoder."}
    schedulers: Mapping[str, str] = {"euler": "FlowMatchEulerDiscreteScheduler"}
    defaults: Mapping[str, Any] = {  # resolution of that script; steps and guidance of the pipeline's own call
        "data": {"resolution": 512, "class_image_steps": 28},
        "adapter": {"train_text_encoder": False},
        "evaluation": {"sampler_steps": 28, "guidance": 3.5},
        "baseline": {"sampler_steps": 28, "guidance": 3.5},
    }

    def kind_problem(self, pipeline: Any) -> str:
        denoiser, channels = pipeline.transformer.config, pipeline.vae.config["latent_channels"]
        clip, t5 = pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.d_model
        if (found := denoiser["in_channels"]) != (packed := _PATCH**2 * channels):
            return f"its transformer takes {found} channels, and its packed latents have {packed}"
        if (found := denoiser["pooled_projection_dim"]) != clip:
            return f"its transformer reads {found} pooled numbers, and its first encoder gives {clip}"
        if (found := denoiser["joint_attention_dim"]) != t5:
            return f"its transformer reads words of {found} numbers, and its second encoder's have {t5}"
        return ""

    def distilled(self, pipeline: Any) -> str:
        """FLUX.1 [schnell] differs from [dev] in that it reads no guidance."""
        return "" if pipeline.transformer.config["guidance_embeds"] else _BASE

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        """The levels of the pipeline's own trajectory at the size of the image: larger images get more noise."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        from lookforward.models.families.flow import path_by_size

        tokens = ((resolution or self.native_size(pipeline)) // self.size_unit(pipeline)) ** 2
        config = pipeline.scheduler.config
        tokens_shifts = (
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return path_by_size(pipeline.scheduler, tokens, lambda count: calculate_shift(count, *tokens_shifts), _PATCH)

    def prediction(self, pipeline: Any) -> Prediction:
        from lookforward.core.prediction import Prediction

        return Prediction.FLOW

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer_2, _TOKENS - 1  # but for the mark of the end

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """extra["guidance"]: (b,), 1 throughout; absent in a model that does not read it."""
        from lookforward.core.types import Conditioning

        texts, device = list(prompts), pipeline.transformer.device
        tokens, pooled, _ = pipeline.encode_prompt(texts, texts, device, max_sequence_length=_TOKENS)
        reads = pipeline.transformer.config["guidance_embeds"]
        extra = {"guidance": tokens.new_ones(len(texts)).float()} if reads else {}
        return Conditioning(tokens.float(), pooled=pooled.float(), extra=extra)

    def noise_share(self, timestep: Tensor) -> Tensor:
        return timestep

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        from lookforward.models.families.flow import grid, pack, unpack

        words, device, (height, width) = state.conditioning, state.x_t.device, state.x_t.shape[-2:]
        output = denoiser(
            hidden_states=pack(state.x_t, _PATCH),
            timestep=noise_level,
            guidance=words.extra.get("guidance"),
            pooled_projections=words.pooled,
            encoder_hidden_states=words.tokens,
            txt_ids=words.tokens.new_zeros(words.tokens.shape[1], 3),
            img_ids=grid(1, height // _PATCH, width // _PATCH, device=device),
            return_dict=False,
        )[0]
        return unpack(output, height, width, _PATCH)

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        from lookforward.models.families.kl import encode_kl

        return encode_kl(vae, images)

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        from lookforward.models.families.kl import decode_kl

        return decode_kl(vae, x_0)

    def size_unit(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * _PATCH

    def native_size(self, pipeline: Any) -> int:
        return int(pipeline.default_sample_size * pipeline.vae_scale_factor)

    def set_sampler(self, pipeline: Any) -> None:
        from lookforward.models.families.flow import set_euler

        set_euler(pipeline)

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        """The scale is the one that the model reads; without a second pass nothing is led away from."""
        if negative:
            raise LookforwardError(f"{self.label} takes no negative prompt: leave it out.", code="negative-unsupported")
        return {"guidance_scale": guidance}

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        return without + guidance * (prompted - without)

    def signature(self, pipeline: Any) -> list[Any]:
        from lookforward.models.families.flow import levels_of

        return [
            levels_of(pipeline.scheduler),
            [pipeline.vae.config[name] for name in ("scaling_factor", "shift_factor")],
            [getattr(pipeline, name).get_vocab() for name in self.tokenizers],
        ]


FLUX = Flux()
