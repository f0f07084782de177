"""Qwen-Image: a transformer on image and prompt together, Qwen2.5-VL as the text encoder, rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookforward.core.path import NoisePath
    from lookforward.core.prediction import Prediction
    from lookforward.core.types import CachedLatents, Conditioning, State

_TOKENS = 512  # of a prompt and what follows it in the template, as many as the pipeline's call reads
_NOTHING = " "  # the negative prompt of the model card, for want of another; the pipeline guides by none without one
_VARIANTS = ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope")


class QwenImage:
    """The family of `QwenImagePipeline`."""

    name: str = "qwen_image"
    label: str = "Qwen-Image"
    pipeline_class: str = "QwenImagePipeline"
    denoiser: str = "transformer"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    optional: frozenset[str] = frozenset()
    load_options: Mapping[str, Any] = {}
    capabilities: frozenset[str] = frozenset()  # image and prompt share every attention; a word is Qwen2.5's to learn
    word_files: Mapping[str, str] = {}
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora_qwen_image of diffusers adapts
        "transformer": ("to_k", "to_out.0", "to_q", "to_v"),
    }
    comfyui: Mapping[str, str] = {"transformer": "diffusion_model."}
    schedulers: Mapping[str, str] = {"euler": "FlowMatchEulerDiscreteScheduler"}
    defaults: Mapping[str, Any] = {  # size, steps and guidance of the pipeline's own call
        "data": {"resolution": 1024, "class_image_steps": 50},
        "adapter": {"train_text_encoder": False},  # a language model of 7 billion weights
        "evaluation": {"sampler_steps": 50, "guidance": 4.0},
        "baseline": {"sampler_steps": 50, "guidance": 4.0},
    }

    def kind_problem(self, pipeline: Any) -> str:
        denoiser, channels = pipeline.transformer.config, pipeline.vae.config["z_dim"]
        if found := [name for name in _VARIANTS if denoiser.get(name)]:
            return f"its transformer is that of a model that edits or layers images ({found[0]})"
        if denoiser["in_channels"] != 4 * channels:
            return (
                f"its transformer takes {denoiser['in_channels']} channels, and its packed latents have {4 * channels}"
            )
        width = pipeline.text_encoder.config.get_text_config().hidden_size
        if denoiser["joint_attention_dim"] != width:
            return (
                f"its transformer reads words of {denoiser['joint_attention_dim']} numbers, its encoder's have {width}"
            )
        if denoiser.get("guidance_embeds"):
            return "its transformer reads the guidance, which no released Qwen-Image does"
        return ""

    def distilled(self, pipeline: Any) -> str:
        """Qwen-Image-Lightning is distilled at one shift, ln 3, for all sizes, and its scheduler says so."""
        config = pipeline.scheduler.config
        one_shift = config.get("use_dynamic_shifting") and config["base_shift"] == config["max_shift"]
        return "Qwen/Qwen-Image" if one_shift else ""

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        """The levels that the sampler shifts by the size of the image (e^μ = 2.0 at 1024 pixels, 1.7 at 512), drawn
        uniformly; diffusers' script leaves the shift out.

        That a trajectory takes its last step from 0.02 (`shift_terminal`) is left to the sampler.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler
        from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift

        from lookforward.models.families.flow import path_by_size

        config = pipeline.scheduler.config
        tokens = ((resolution or self.native_size(pipeline)) // self.size_unit(pipeline)) ** 2
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(config, shift_terminal=None)
        shifts = [config[name] for name in names]
        return path_by_size(scheduler, tokens, lambda count: calculate_shift(count, *shifts), 2)

    def prediction(self, pipeline: Any) -> Prediction:
        from lookforward.core.prediction import Prediction

        return Prediction.FLOW

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, _TOKENS

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """The last states of the prompt in its template, with zeros up to one length, which the mask leaves out.

        The empty prompt is what the pipeline is guided away from by default.
        """
        from torch.nn.functional import pad

        from lookforward.core.types import Conditioning

        texts = [text or _NOTHING for text in prompts]
        tokens, mask = pipeline.encode_prompt(texts, pipeline.transformer.device, max_sequence_length=_TOKENS)
        mask = tokens.new_ones(tokens.shape[:2]) if mask is None else mask  # (b, l)
        room = _TOKENS - tokens.shape[1]
        return Conditioning(pad(tokens.float(), (0, 0, 0, room)), mask=pad(mask.bool(), (0, room)))

    def noise_share(self, timestep: Tensor) -> Tensor:
        return timestep

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        from lookforward.models.families.flow import pack, unpack

        words, (height, width) = state.conditioning, state.x_t.shape[-2:]
        assert words.mask is not None
        longest = int(words.mask.sum(dim=1).max())
        mask = words.mask[:, :longest].bool()
        output = denoiser(
            hidden_states=pack(state.x_t, 2),
            timestep=noise_level,
            encoder_hidden_states=words.tokens[:, :longest],
            encoder_hidden_states_mask=None if mask.all() else mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(state.x_t),
            return_dict=False,
        )[0]
        return unpack(output, height, width, 2)

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        """The posterior, normalised for each channel; the autoencoder is one of videos, and an image is one frame."""
        import torch

        from lookforward.core.types import CachedLatents

        with torch.no_grad():
            frames = (images.to(vae.device, vae.dtype) * 2 - 1)[:, :, None]  # (n, 3, 1, H, W)
            posterior = vae.encode(frames, return_dict=False)[0]
        mean, std = _normalisation(vae, images)
        return CachedLatents((posterior.mean[:, :, 0].float() - mean) / std, posterior.std[:, :, 0].float() / std, 1.0)

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        mean, std = _normalisation(vae, x_0)
        latents = (x_0 * std + mean).to(vae.dtype)[:, :, None]
        return (vae.decode(latents, return_dict=False)[0][:, :, 0].float() / 2 + 0.5).clamp(0, 1)

    def size_unit(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * 2  # of a patch

    def native_size(self, pipeline: Any) -> int:
        return int(pipeline.default_sample_size * pipeline.vae_scale_factor)

    def set_sampler(self, pipeline: Any) -> None:
        from lookforward.models.families.flow import set_euler

        set_euler(pipeline)

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        away = {"negative_prompt": list(negative) if negative else _NOTHING} if guidance > 1 else {}
        return {"true_cfg_scale": guidance} | away

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        """Classifier-free guidance; each token then has the length that it has with the prompt alone."""
        from lookforward.models.families.flow import pack, unpack

        height, width = prompted.shape[-2:]
        length = pack(prompted, 2).norm(dim=-1, keepdim=True)  # (b, tokens, 1)
        guided = pack(without + guidance * (prompted - without), 2)
        return unpack(guided * (length / guided.norm(dim=-1, keepdim=True)), height, width, 2)

    def signature(self, pipeline: Any) -> list[Any]:
        from lookforward.models.families.flow import levels_of

        return [
            levels_of(pipeline.scheduler),
            [list(pipeline.vae.config[name]) for name in ("latents_mean", "latents_std")],
            pipeline.tokenizer.get_vocab(),
        ]


def _normalisation(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (c, 1, 1) float32 each."""
    import torch

    names = ("latents_mean", "latents_std")
    mean, std = (torch.tensor(vae.config[name], device=like.device)[:, None, None] for name in names)
    return mean, std


QWEN_IMAGE = QwenImage()
