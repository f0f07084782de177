"""Stable Diffusion XL: a UNet that reads two CLIP encoders and an image's sizes, on a variance-preserving path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookforward.models.families.sd import StableDiffusion, guidance_embedding, guidance_of, samples_in_few_steps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookforward.core.types import Conditioning, State

_ATTENTION = ("k_proj", "out_proj", "q_proj", "v_proj")
_SIZES = 6  # height and width of the original image, top and left of its crop, height and width of the target
_BASE = "stabilityai/stable-diffusion-xl-base-1.0"


class StableDiffusionXL(StableDiffusion):
    """The family of `StableDiffusionXLPipeline`: Stable Diffusion's path, autoencoder and sampler, more conditions.

    The UNet is shown the size that an image had, where it was cropped, and the size that it is to have. In training the
    first two are each photo's own (`Conditioning.extra["sizes"]`). Without them both sizes are those of the latents and
    the crop is (0, 0), as the pipeline itself draws. The autoencoder computes in single precision, whatever
    `model.precision` is.
    """

    name: str = "sdxl"
    label: str = "Stable Diffusion XL"
    pipeline_class: str = "StableDiffusionXLPipeline"
    text_encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")
    tokenizers: tuple[str, ...] = ("tokenizer", "tokenizer_2")
    load_options: Mapping[str, Any] = {"add_watermarker": False}  # else it depends on what else is installed
    capabilities: frozenset[str] = frozenset({"cross-attention", "learned-words", "sizes"})
    word_files: Mapping[str, str] = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora_sdxl of diffusers adapts
        "unet": ("to_k", "to_out.0", "to_q", "to_v"),
        "text_encoder": _ATTENTION,
        "text_encoder_2": _ATTENTION,
    }
    comfyui: Mapping[str, str] = {
        "unet": "lora_unet_",
        "text_encoder": "lora_te1_",
        "text_encoder_2": "lora_te2_",
    }
    defaults: Mapping[str, Any] = {  # the resolution of that script; steps and guidance of the pipeline's own call
        "data": {"resolution": 1024, "class_image_steps": 50},
        "evaluation": {"sampler_steps": 50, "guidance": 5.0},
        "baseline": {"sampler_steps": 50, "guidance": 5.0},
    }

    def kind_problem(self, pipeline: Any) -> str:
        unet, latents = pipeline.unet.config, pipeline.vae.config
        first, second = pipeline.text_encoder.config, pipeline.text_encoder_2.config
        if unet["in_channels"] != latents["latent_channels"]:
            return f"its UNet takes {unet['in_channels']} channels, as for inpainting, and not the latents' " + str(
                latents["latent_channels"]
            )
        if unet.get("addition_embed_type") != "text_time":
            return "its UNet does not read pooled prompts and sizes"
        if unet["cross_attention_dim"] != (words := first.hidden_size + second.hidden_size):
            return f"its UNet reads words of {unet['cross_attention_dim']} numbers, and the text encoders' have {words}"
        sizes = unet["projection_class_embeddings_input_dim"] - second.projection_dim
        if sizes != _SIZES * unet["addition_time_embed_dim"]:
            return "its UNet reads other numbers than sizes and crop, as the refiner does"
        if not hasattr(pipeline.scheduler, "alphas_cumprod"):
            return f"its noise levels, of {type(pipeline.scheduler).__name__}, are on no variance-preserving path"
        return self._latents_problem(latents)

    def distilled(self, pipeline: Any) -> str:
        return _BASE if samples_in_few_steps(pipeline) else ""

    def _latents_problem(self, latents: Any) -> str:
        if latents.get("latents_mean") is not None or latents.get("latents_std") is not None:
            return "its latents are normalised by a mean and a deviation of their own"
        return ""

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """Of both encoders the states before the last layer, side by side, and the second one's pooled vector.

        An empty prompt is all zeros where the pipeline draws without a prompt so (`force_zeros_for_empty_prompt`).
        """
        import torch

        from lookforward.core.types import Conditioning

        texts = list(prompts)
        tokens, _, pooled, _ = pipeline.encode_prompt(texts, texts, pipeline.unet.device, 1, False)
        tokens, pooled = tokens.float(), pooled.float()
        if pipeline.config["force_zeros_for_empty_prompt"] and "" in texts:
            said = torch.tensor([[float(text != "")] for text in texts], device=tokens.device)
            tokens, pooled = tokens * said[:, None], pooled * said
        pixels = torch.full((len(texts), 1), float(pipeline.vae_scale_factor), device=tokens.device)
        return Conditioning(tokens, pooled=pooled, extra={"pixels": pixels, **guidance_of(pipeline, tokens)})

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        import torch

        words = state.conditioning
        pixels = words.extra["pixels"]  # of a latent's side, (b, 1)
        size = pixels * pixels.new_tensor(state.x_t.shape[-2:])  # (b, 2): height and width
        shown = words.extra.get("sizes")  # of the photo and its crop, (b, 4)
        sizes = torch.cat([size, torch.zeros_like(size)] if shown is None else [shown.to(size)], dim=1)
        sizes = torch.cat([sizes, size], dim=1)  # the last two are the target's
        given = {
            "added_cond_kwargs": {"text_embeds": words.pooled, "time_ids": sizes},
            "timestep_cond": guidance_embedding(denoiser, words.extra.get("guidance")),
        }
        return denoiser(state.x_t, state.timestep, words.tokens, **given, return_dict=False)[0]

    def signature(self, pipeline: Any) -> list[Any]:
        shown = [pipeline.tokenizer_2.get_vocab(), pipeline.config["force_zeros_for_empty_prompt"]]
        return [*super().signature(pipeline), *shown]


SDXL = StableDiffusionXL()
