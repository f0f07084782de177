"""Stable Diffusion 1 and 2: a UNet with cross-attention, one CLIP text encoder, a variance-preserving path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookforward.core.path import NoisePath
    from lookforward.core.prediction import Prediction
    from lookforward.core.types import CachedLatents, Conditioning, State

# What Stable Diffusion's samplers say, for a pipeline whose own says nothing of it
_SAMPLER = {"steps_offset": 1, "set_alpha_to_one": False}
# Of a scheduler's settings, those that say what noise the model has learned
_NOISE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr",
)  # fmt: skip


class StableDiffusion:
    """The family of `StableDiffusionPipeline`."""

    name: str = "sd"
    label: str = "Stable Diffusion 1 and 2"
    pipeline_class: str = "StableDiffusionPipeline"
    denoiser: str = "unet"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    optional: frozenset[str] = frozenset()
    load_options: Mapping[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
    capabilities: frozenset[str] = frozenset({"cross-attention", "learned-words", "one-text-encoder", "photo-prompts"})
    word_files: Mapping[str, str] = {"text_encoder": ""}
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora of diffusers adapts
        "unet": ("to_k", "to_out.0", "to_q", "to_v"),
        "text_encoder": ("k_proj", "out_proj", "q_proj", "v_proj"),
    }
    comfyui: Mapping[str, str] = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    schedulers: Mapping[str, str] = {
        "ddim": "DDIMScheduler",
        "ddpm": "DDPMScheduler",
        "dpm++": "DPMSolverMultistepScheduler",
        "euler": "EulerDiscreteScheduler",
        "unipc": "UniPCMultistepScheduler",
    }
    defaults: Mapping[str, Any] = {}

    def kind_problem(self, pipeline: Any) -> str:
        unet, latents, words = pipeline.unet.config, pipeline.vae.config, pipeline.text_encoder.config
        if unet.get("addition_embed_type"):
            return "its UNet takes further conditions, as Stable Diffusion XL's does"
        if unet["in_channels"] != latents["latent_channels"]:
            return f"its UNet takes {unet['in_channels']} channels and not the latents' {latents['latent_channels']}"
        if unet["cross_attention_dim"] != words.hidden_size:
            return (
                f"its UNet reads words of {unet['cross_attention_dim']} numbers, and the text encoder's have "
                f"{words.hidden_size}"
            )
        return ""

    def distilled(self, pipeline: Any) -> str:
        """See `samples_in_few_steps`. The text encoder's width says whether its base is Stable Diffusion 1 or 2."""
        if not samples_in_few_steps(pipeline):
            return ""
        wide = pipeline.text_encoder.config.hidden_size >= 1024
        return "stabilityai/stable-diffusion-2-1" if wide else "stable-diffusion-v1-5/stable-diffusion-v1-5"

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        from lookforward.core.path import variance_preserving

        return variance_preserving(pipeline.scheduler.alphas_cumprod.float())

    def prediction(self, pipeline: Any) -> Prediction:
        from lookforward.core.prediction import Prediction

        return Prediction(pipeline.scheduler.config.get("prediction_type", "epsilon"))

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, pipeline.tokenizer.model_max_length - 2

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """A `LayeredWordPipeline` has l tokens for each of its layers, and may leave part of the work to the UNet."""
        from lookforward.core.types import Conditioning

        tokens = pipeline.encode_prompt(list(prompts), pipeline.unet.device, 1, False)[0].float()
        return Conditioning(tokens, extra=guidance_of(pipeline, tokens))

    def noise_share(self, timestep: Tensor) -> Tensor:
        return timestep / 1000

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        words = state.conditioning
        shown = guidance_embedding(denoiser, words.extra.get("guidance"))
        return denoiser(state.x_t, state.timestep, words.tokens, timestep_cond=shown, return_dict=False)[0]

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        from lookforward.models.families.kl import encode_kl

        return encode_kl(vae, images)

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        from lookforward.models.families.kl import decode_kl

        return decode_kl(vae, x_0)

    def size_unit(self, pipeline: Any) -> int:
        # Each level of the VAE and of the UNet halves the image once, but for the last
        return pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config["block_out_channels"]) - 1)

    def native_size(self, pipeline: Any) -> int:
        return int(pipeline.unet.config["sample_size"] * pipeline.vae_scale_factor)

    def set_sampler(self, pipeline: Any) -> None:
        """DDIM. What the pipeline's own sampler does not say is as in Stable Diffusion's: DDIM by itself would clip
        latents to [-1, 1], as if they were pixels.
        """
        from diffusers import DDIMScheduler

        config = pipeline.scheduler.config
        said = {name: value for name, value in _SAMPLER.items() if name not in config}
        if samples_in_few_steps(pipeline):  # the first of few steps must begin at noise alone
            said["timestep_spacing"] = "trailing"
        pipeline.scheduler = DDIMScheduler.from_config(config, **{**said, "clip_sample": False})

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        return {"guidance_scale": guidance} | ({"negative_prompt": list(negative)} if negative else {})

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        return without + guidance * (prompted - without)

    def signature(self, pipeline: Any) -> list[Any]:
        schedule = {name: pipeline.scheduler.config.get(name) or None for name in _NOISE}
        return [schedule, pipeline.vae.config["scaling_factor"], pipeline.tokenizer.get_vocab()]


def samples_in_few_steps(pipeline: Any) -> bool:
    """Whether a model with a UNet was distilled to sample in a few steps, by its scheduler or its UNet.

    Latent consistency models have a scheduler of their own, or a UNet that reads the guidance. SD-Turbo, SDXL-Turbo
    and SDXL-Lightning differ from their bases in the spacing of their scheduler's timesteps alone: "trailing", which
    otherwise only models whose noise levels end in pure noise use (Lin et al., 2024).
    """
    config = pipeline.scheduler.config
    trailing = config.get("timestep_spacing") == "trailing" and not config.get("rescale_betas_zero_snr")
    consistent = type(pipeline.scheduler).__name__ in ("LCMScheduler", "TCDScheduler")
    return trailing or consistent or pipeline.unet.config.get("time_cond_proj_dim") is not None


def guidance_of(pipeline: Any, like: Tensor) -> dict[str, Tensor]:
    """What a UNet that was distilled to read the guidance is shown of it, (b,), 1 throughout; else nothing."""
    reads = pipeline.unet.config.get("time_cond_proj_dim") is not None
    return {"guidance": like.new_ones(len(like))} if reads else {}


def guidance_embedding(denoiser: Any, guidance: Tensor | None) -> Tensor | None:
    """The guidance, (b,), as such a UNet reads it, (b, d): waves of 1000 (w - 1), as the pipelines make them."""
    from diffusers.models.embeddings import get_timestep_embedding

    if guidance is None:
        return None
    return get_timestep_embedding(1000 * (guidance - 1), denoiser.config["time_cond_proj_dim"], downscale_freq_shift=1)


SD = StableDiffusion()
