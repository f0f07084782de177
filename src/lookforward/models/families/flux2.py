"""FLUX.2: a transformer on packed latents that one language model's inner layers condition, on a shifted flow.

[klein] is guided as Ho and Salimans (2022) do, away from the empty prompt. [dev] was distilled to read the scale of
guidance as a number; it is trained at a scale of 1, as diffusers' README_flux2 of its training script does.
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

_PATCH = 2  # latents in a token's side
_TOKENS = 512  # of a prompt with what the chat template adds, as many as the pipelines ask for
_BLOCKS = 48  # single-stream blocks at most, those of [dev]


class Flux2Klein:
    """The family of `Flux2KleinPipeline`: Qwen3, of which three layers are read side by side.

    A latent here is one of the 2 × 2 patches that the transformer has as tokens, normalised by the statistics of the
    autoencoder's batch norm: (b, 4·c, h/2, w/2).
    """

    name: str = "flux2"
    label: str = "FLUX.2 [klein]"
    pipeline_class: str = "Flux2KleinPipeline"
    denoiser: str = "transformer"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    optional: frozenset[str] = frozenset()
    load_options: Mapping[str, Any] = {}
    capabilities: frozenset[str] = frozenset()  # image and prompt share every attention; diffusers loads no words here
    word_files: Mapping[str, str] = {}
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora_flux2_klein of diffusers adapts
        "transformer": (
            "to_k", "to_out.0", "to_q", "to_qkv_mlp_proj", "to_v",
            *(f"single_transformer_blocks.{i}.attn.to_out" for i in range(_BLOCKS)),
        ),
    }  # fmt: skip
    comfyui: Mapping[str, str] = {"transformer": "transformer."}
    schedulers: Mapping[str, str] = {"euler": "FlowMatchEulerDiscreteScheduler"}
    defaults: Mapping[str, Any] = {  # resolution of that script; steps and guidance of the pipeline's own call
        "data": {"resolution": 512, "class_image_steps": 50},
        "adapter": {"train_text_encoder": False},
        "evaluation": {"sampler_steps": 50, "guidance": 4.0},
        "baseline": {"sampler_steps": 50, "guidance": 4.0},
    }
    last_layer: int = 27  # of the three whose states are read, `text_encoder_out_layers` of the pipeline's call
    reads_guidance: bool = False

    def kind_problem(self, pipeline: Any) -> str:
        denoiser, channels = pipeline.transformer.config, pipeline.vae.config["latent_channels"]
        words = pipeline.text_encoder.config.get_text_config()
        if (found := denoiser["in_channels"]) != (packed := _PATCH**2 * channels):
            return f"its transformer takes {found} channels, and its packed latents have {packed}"
        if (found := denoiser["joint_attention_dim"]) != (read := 3 * words.hidden_size):
            return f"its transformer reads words of {found} numbers, and three layers of its encoder have {read}"
        if (found := words.num_hidden_layers) < self.last_layer:
            return f"its encoder has {found} layers, and layer {self.last_layer} is to be read"
        return ""

    def distilled(self, pipeline: Any) -> str:
        """The pipeline says so itself. Its encoder, Qwen3-4B or Qwen3-8B, says which size it is."""
        if not pipeline.config["is_distilled"]:
            return ""
        size = "9B" if pipeline.text_encoder.config.hidden_size >= 4096 else "4B"
        return f"black-forest-labs/FLUX.2-klein-base-{size}"

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        """The levels of the pipeline's own trajectory at the size of the image, shifted as in its default 50 steps."""
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        from lookforward.models.families.flow import path_by_size

        tokens = ((resolution or self.native_size(pipeline)) // self.size_unit(pipeline)) ** 2
        steps = self.defaults["evaluation"]["sampler_steps"]
        return path_by_size(pipeline.scheduler, tokens, lambda count: compute_empirical_mu(count, steps))

    def prediction(self, pipeline: Any) -> Prediction:
        from lookforward.core.prediction import Prediction

        return Prediction.FLOW

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        message = [{"role": "user", "content": ""}]
        around = pipeline.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return pipeline.tokenizer, _TOKENS - len(pipeline.tokenizer(around).input_ids)

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """extra["guidance"]: (b,), 1 throughout, of a model that reads it."""
        from lookforward.core.types import Conditioning

        texts, device = list(prompts), pipeline.transformer.device
        tokens = pipeline.encode_prompt(texts, device, max_sequence_length=_TOKENS)[0].float()
        extra = {"guidance": tokens.new_ones(len(texts))} if self.reads_guidance else {}
        return Conditioning(tokens, extra=extra)

    def noise_share(self, timestep: Tensor) -> Tensor:
        return timestep

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        from lookforward.models.families.flow import grid, pack, unpack

        words, device, (height, width) = state.conditioning, state.x_t.device, state.x_t.shape[-2:]
        output = denoiser(
            hidden_states=pack(state.x_t),
            timestep=noise_level,
            guidance=words.extra.get("guidance"),
            encoder_hidden_states=words.tokens,
            txt_ids=grid(1, 1, 1, words.tokens.shape[1], device=device),
            img_ids=grid(1, height, width, 1, device=device),
            return_dict=False,
        )[0]
        return unpack(output, height, width)

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        """The mode of the posterior alone, as the pipelines encode images and the training script does."""
        import torch
        from torch.nn.functional import pixel_unshuffle

        from lookforward.core.types import CachedLatents

        with torch.no_grad():
            posterior = vae.encode(images.to(vae.device, vae.dtype) * 2 - 1, return_dict=False)[0]
            mean, deviation = _statistics(vae)
            latents = (pixel_unshuffle(posterior.mode(), _PATCH).float() - mean) / deviation
        return CachedLatents(latents, torch.zeros_like(latents), scaling=1.0)

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        from torch.nn.functional import pixel_shuffle

        mean, deviation = _statistics(vae)
        latents = pixel_shuffle(x_0 * deviation + mean, _PATCH).to(vae.dtype)
        return (vae.decode(latents, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)

    def size_unit(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * _PATCH

    def native_size(self, pipeline: Any) -> int:
        return int(pipeline.default_sample_size * pipeline.vae_scale_factor)

    def set_sampler(self, pipeline: Any) -> None:
        from lookforward.models.families.flow import set_euler

        set_euler(pipeline)

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        """The pipelines guide away from the empty prompt, or from none, and take no other."""
        if negative:
            raise LookforwardError(f"{self.label} takes no negative prompt: leave it out.", code="negative-unsupported")
        return {"guidance_scale": guidance}

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        return without + guidance * (prompted - without)

    def signature(self, pipeline: Any) -> list[Any]:
        from lookforward.models.families.flow import levels_of

        mean, deviation = _statistics(pipeline.vae)
        return [
            levels_of(pipeline.scheduler),
            [mean.flatten().tolist(), deviation.flatten().tolist()],
            pipeline.tokenizer.get_vocab(),
        ]


class Flux2Dev(Flux2Klein):
    """The family of `Flux2Pipeline`: Mistral Small 3, with a system message, and a scale of guidance that is read.

    The released model's tokenizer is a processor that could read images too; of it the tokenizer alone is loaded.
    """

    name: str = "flux2_dev"
    label: str = "FLUX.2 [dev]"
    pipeline_class: str = "Flux2Pipeline"
    last_layer: int = 30
    reads_guidance: bool = True

    def distilled(self, pipeline: Any) -> str:
        """No steps were distilled away."""
        return ""

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        around = pipeline.tokenizer.apply_chat_template(
            format_input([""], pipeline.system_message), add_generation_prompt=False, tokenize=True, return_dict=True
        )
        return pipeline.tokenizer, _TOKENS - len(around["input_ids"][0])


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of patched latents, (4·c, 1, 1) each, from the VAE's batch norm."""
    mean, variance = vae.bn.running_mean.float(), vae.bn.running_var.float()
    return mean[:, None, None], (variance + vae.config["batch_norm_eps"]).sqrt()[:, None, None]


FLUX2_KLEIN, FLUX2_DEV = Flux2Klein(), Flux2Dev()
