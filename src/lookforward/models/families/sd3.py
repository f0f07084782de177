"""Stable Diffusion 3 and 3.5: a transformer on image and prompt together, two CLIP encoders and T5, rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookforward.core.path import NoisePath
    from lookforward.core.prediction import Prediction
    from lookforward.core.types import CachedLatents, Conditioning, State

T5_TOKENS = 256  # as many as the pipeline's own call appends to a prompt, zeros if there is no T5
_ATTENTION = ("k_proj", "out_proj", "q_proj", "v_proj")


class StableDiffusion3:
    """The family of `StableDiffusion3Pipeline`. T5, its third text encoder, may be missing."""

    name: str = "sd3"
    label: str = "Stable Diffusion 3 and 3.5"
    pipeline_class: str = "StableDiffusion3Pipeline"
    denoiser: str = "transformer"
    text_encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers: tuple[str, ...] = ("tokenizer", "tokenizer_2", "tokenizer_3")
    optional: frozenset[str] = frozenset({"text_encoder_3", "tokenizer_3"})
    load_options: Mapping[str, Any] = {}
    capabilities: frozenset[str] = frozenset(
        {"learned-words", "photo-prompts"}
    )  # every attention reads image and prompt
    word_files: Mapping[str, str] = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}  # T5 learns none
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora_sd3 of diffusers adapts
        "transformer": (
            "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out",
            "attn.to_k", "attn.to_out.0", "attn.to_q", "attn.to_v",
        ),
        "text_encoder": _ATTENTION,
        "text_encoder_2": _ATTENTION,
    }  # fmt: skip
    comfyui: Mapping[str, str] = {
        "transformer": "transformer.",
        "text_encoder": "text_encoder.",
        "text_encoder_2": "text_encoder_2.",
    }
    schedulers: Mapping[str, str] = {"euler": "FlowMatchEulerDiscreteScheduler"}
    defaults: Mapping[str, Any] = {  # size, steps and guidance of the pipeline's own call
        "data": {"resolution": 1024, "class_image_steps": 28},
        "evaluation": {"sampler_steps": 28, "guidance": 7.0},
        "baseline": {"sampler_steps": 28, "guidance": 7.0},
    }

    def kind_problem(self, pipeline: Any) -> str:
        denoiser, channels = pipeline.transformer.config, pipeline.vae.config["latent_channels"]
        if denoiser["in_channels"] != channels:
            return f"its transformer takes {denoiser['in_channels']} channels, and its latents have {channels}"
        pooled = pipeline.text_encoder.config.projection_dim + pipeline.text_encoder_2.config.projection_dim
        if denoiser["pooled_projection_dim"] != pooled:
            return (
                f"its transformer reads {denoiser['pooled_projection_dim']} pooled numbers, not its encoders' {pooled}"
            )
        return ""

    def distilled(self, pipeline: Any) -> str:
        return ""

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        """The scheduler's own shifted levels, drawn for training as Esser et al. (2024) do.

        A scheduler that shifts by the size of the image is followed, as the pipeline does when it draws.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler

        from lookforward.core.path import rectified_flow

        if pipeline.scheduler.config.get("use_dynamic_shifting"):
            return self._path_by_size(pipeline, resolution or self.native_size(pipeline))
        fresh: Any = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config)  # drawing changes its table
        return rectified_flow(fresh.sigmas.flip(0), density="logit-normal")

    def _path_by_size(self, pipeline: Any, resolution: int) -> NoisePath:
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

        from lookforward.models.families.flow import path_by_size

        config, patch = pipeline.scheduler.config, pipeline.transformer.config["patch_size"]
        names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.16}
        shifts = [config.get(name, default) for name, default in names.items()]
        tokens = (resolution // self.size_unit(pipeline)) ** 2
        return path_by_size(
            pipeline.scheduler, tokens, lambda count: calculate_shift(count, *shifts), patch, density="logit-normal"
        )

    def prediction(self, pipeline: Any) -> Prediction:
        from lookforward.core.prediction import Prediction

        return Prediction.FLOW

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, pipeline.tokenizer.model_max_length - 2

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        from lookforward.core.types import Conditioning
        from lookforward.models.families.words import written_out

        texts = written_out(pipeline.tokenizer, prompts)  # the pipeline does not do it itself
        device, length = pipeline.transformer.device, t5_options(pipeline)
        tokens, _, pooled, _ = pipeline.encode_prompt(texts, texts, texts, device, 1, False, **length)
        return Conditioning(tokens.float(), pooled=pooled.float())

    def noise_share(self, timestep: Tensor) -> Tensor:
        return timestep / 1000

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        return denoiser(
            hidden_states=state.x_t,
            timestep=1000 * noise_level,
            encoder_hidden_states=state.conditioning.tokens,
            pooled_projections=state.conditioning.pooled,
            return_dict=False,
        )[0]

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        from lookforward.models.families.kl import encode_kl

        return encode_kl(vae, images)

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        from lookforward.models.families.kl import decode_kl

        return decode_kl(vae, x_0)

    def size_unit(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * pipeline.transformer.config["patch_size"]

    def native_size(self, pipeline: Any) -> int:
        return int(pipeline.transformer.config["sample_size"] * pipeline.vae_scale_factor)

    def set_sampler(self, pipeline: Any) -> None:
        from lookforward.models.families.flow import set_euler

        set_euler(pipeline)

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        return {"guidance_scale": guidance} | ({"negative_prompt": list(negative)} if negative else {})

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        return without + guidance * (prompted - without)

    def signature(self, pipeline: Any) -> list[Any]:
        from lookforward.models.families.flow import levels_of

        vocabularies = [getattr(pipeline, name) for name in self.tokenizers]
        by_size = pipeline.scheduler.config.get("use_dynamic_shifting")
        return [
            *([levels_of(pipeline.scheduler)] if by_size else []),  # other sizes have other levels
            self.path(pipeline).noise.tolist(),
            [pipeline.vae.config[name] for name in ("scaling_factor", "shift_factor")],
            [tokenizer.get_vocab() if tokenizer is not None else {} for tokenizer in vocabularies],
            *t5_options(pipeline).values(),
        ]


def t5_options(pipeline: Any) -> dict[str, int]:
    """What a call of the pipeline, or of its `encode_prompt`, is given where a model without T5 needs fewer tokens in
    its place than diffusers appends: they cost most of a small model's time, and say nothing.

    The model says so by `absent_t5_tokens` in the config of its first text encoder.
    """
    if getattr(pipeline, "text_encoder_3", 0) is not None:  # another family's pipeline has no such attribute
        return {}
    tokens = getattr(pipeline.text_encoder.config, "absent_t5_tokens", T5_TOKENS)
    return {} if tokens == T5_TOKENS else {"max_sequence_length": int(tokens)}


SD3 = StableDiffusion3()
