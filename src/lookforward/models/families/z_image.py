"""Z-Image: one stream of image and prompt tokens, Qwen3 as the text encoder, rectified flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lookforward.core.path import NoisePath
    from lookforward.core.prediction import Prediction
    from lookforward.core.types import CachedLatents, Conditioning, State

_TOKENS = 512  # of a prompt in its template, as many as the pipeline reads
_NATIVE = 1024  # pixels: what the pipeline draws where nothing else is asked for
_TURBO_SHIFT = 3.0  # the base's scheduler shifts by 6; the two configurations differ in nothing else


class ZImage:
    """The family of `ZImagePipeline`. Its transformer predicts x_0 - z; the sign is turned here, as in the pipeline.

    guidance w is as everywhere, o(∅) + w (o(y) - o(∅)), and 1 is none. The pipeline's `guidance_scale` is w - 1.
    """

    name: str = "z_image"
    label: str = "Z-Image"
    pipeline_class: str = "ZImagePipeline"
    denoiser: str = "transformer"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    optional: frozenset[str] = frozenset()
    load_options: Mapping[str, Any] = {}
    capabilities: frozenset[str] = frozenset()  # image and prompt share every attention; a word is Qwen3's to learn
    word_files: Mapping[str, str] = {}
    lora_targets: Mapping[str, tuple[str, ...]] = {  # what train_dreambooth_lora_z_image of diffusers adapts
        "transformer": ("to_k", "to_out.0", "to_q", "to_v"),
    }
    comfyui: Mapping[str, str] = {"transformer": "diffusion_model."}
    schedulers: Mapping[str, str] = {"euler": "FlowMatchEulerDiscreteScheduler"}
    defaults: Mapping[str, Any] = {  # of the model card's example: 1024 pixels, 50 steps, guidance_scale 4
        "data": {"resolution": _NATIVE, "class_image_steps": 50},
        "adapter": {"train_text_encoder": False},  # a language model of 4 billion weights
        "evaluation": {"sampler_steps": 50, "guidance": 5.0},
        "baseline": {"sampler_steps": 50, "guidance": 5.0},
    }

    def kind_problem(self, pipeline: Any) -> str:
        denoiser, channels = pipeline.transformer.config, pipeline.vae.config["latent_channels"]
        if denoiser.get("siglip_feat_dim") is not None:
            return "its transformer reads images beside the prompt, as Z-Image-Omni's does"
        if denoiser["in_channels"] != channels:
            return f"its transformer takes {denoiser['in_channels']} channels, and its latents have {channels}"
        if denoiser["cap_feat_dim"] != (width := pipeline.text_encoder.config.hidden_size):
            return f"its transformer reads words of {denoiser['cap_feat_dim']} numbers, and its encoder's have {width}"
        if not pipeline.tokenizer.chat_template:
            return "its tokenizer has no chat template, in which the pipeline puts every prompt"
        return ""

    def distilled(self, pipeline: Any) -> str:
        config = pipeline.scheduler.config
        turbo = not config.get("use_dynamic_shifting") and config["shift"] == _TURBO_SHIFT
        return "Tongyi-MAI/Z-Image" if turbo else ""

    def path(self, pipeline: Any, resolution: int | None = None) -> NoisePath:
        """The sampler's own levels, shifted alike for all sizes, drawn uniformly: so does diffusers' script."""
        from lookforward.models.families.flow import sampled_path

        return sampled_path(pipeline.scheduler, None)

    def prediction(self, pipeline: Any) -> Prediction:
        from lookforward.core.prediction import Prediction

        return Prediction.FLOW

    def prompt_tokenizer(self, pipeline: Any) -> tuple[Any, int]:
        """The template's words before the prompt take some of the room."""
        before = _in_template(pipeline.tokenizer, "{}").partition("{}")[0]
        return pipeline.tokenizer, _TOKENS - len(pipeline.tokenizer(before).input_ids)

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """Qwen3's states before its last layer, with zeros up to one length, which the mask leaves out."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from lookforward.core.types import Conditioning

        texts = list(prompts)  # a copy: the pipeline writes into the list
        found, _ = pipeline.encode_prompt(texts, pipeline.transformer.device, False, max_sequence_length=_TOKENS)
        longest = found[0].new_zeros(_TOKENS, found[0].shape[-1])
        tokens = pad_sequence([longest, *found], batch_first=True)[1:]  # (b, l, d)
        counts = torch.tensor([len(one) for one in found], device=tokens.device)
        mask = torch.arange(_TOKENS, device=tokens.device) < counts[:, None]
        return Conditioning(tokens.float(), mask=mask)

    def noise_share(self, timestep: Tensor) -> Tensor:
        return 1 - timestep

    def denoise(self, denoiser: nn.Module, state: State, noise_level: Tensor) -> Tensor:
        import torch

        words = state.conditioning
        assert words.mask is not None
        outputs = denoiser(
            list(state.x_t[:, :, None].unbind()),  # b images (c, 1, h, w)
            (1000 - 1000 * noise_level) / 1000,
            [tokens[mask] for tokens, mask in zip(words.tokens, words.mask.bool(), strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(outputs).squeeze(2)

    def encode_images(self, vae: Any, images: Tensor) -> CachedLatents:
        """The mode of the posterior alone, as in diffusers' script."""
        from dataclasses import replace

        from lookforward.models.families.kl import encode_kl

        found = encode_kl(vae, images)
        return replace(found, std=found.std.new_zeros(found.std.shape))

    def decode(self, vae: Any, x_0: Tensor) -> Tensor:
        from lookforward.models.families.kl import decode_kl

        return decode_kl(vae, x_0)

    def size_unit(self, pipeline: Any) -> int:
        return pipeline.vae_scale_factor * 2  # of a patch

    def native_size(self, pipeline: Any) -> int:
        return _NATIVE

    def set_sampler(self, pipeline: Any) -> None:
        from lookforward.models.families.flow import set_euler

        set_euler(pipeline)

    def drawing(self, guidance: float, negative: Sequence[str] | None) -> dict[str, Any]:
        return {"guidance_scale": guidance - 1} | ({"negative_prompt": list(negative)} if negative else {})

    def guide(self, prompted: Tensor, without: Tensor, guidance: float) -> Tensor:
        return without + guidance * (prompted - without)

    def signature(self, pipeline: Any) -> list[Any]:
        from lookforward.models.families.flow import levels_of

        tokenizer = pipeline.tokenizer
        return [
            levels_of(pipeline.scheduler),
            [pipeline.vae.config[name] for name in ("scaling_factor", "shift_factor")],
            [tokenizer.get_vocab(), _in_template(tokenizer, "{}")],
        ]


def _in_template(tokenizer: Any, prompt: str) -> str:
    """A prompt as the pipeline shows it to the text encoder."""
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)


Z_IMAGE = ZImage()
