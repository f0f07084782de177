"""A Stable Diffusion pipeline as a deterministic policy (Eq. 2)."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import ModelInfo
from torch import Tensor, nn
from transformers import CLIPTextModel

from lookforward.core.path import Prediction, Schedule, as_noise
from lookforward.core.types import State
from lookforward.errors import LookforwardError
from lookforward.models.encoders import (
    check_vocabulary,
    explain_load_error,
    load_weights,
    local_folder,
    no_progress_bars,
)
from lookforward.models.families import family_of

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class DiffusionPolicy:
    """ε_θ and τ of one pipeline. The pipeline's modules are held, not copied: training changes them.

    Args:
        pipeline: any pipeline with Stable Diffusion 1's or 2's parts.
        precision: what the model computes in ("fp32" or "bf16"); its weights stay in single precision,
            and so does everything that is made of its output.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, precision: str = "fp32") -> None:
        self.pipeline = pipeline
        self.family = family_of(pipeline)
        self.denoiser: nn.Module = getattr(pipeline, self.family.denoiser)
        found = {name: getattr(pipeline, name, None) for name in self.family.text_encoders}
        self.text_encoders: dict[str, nn.Module] = {name: one for name, one in found.items() if one is not None}
        self.dtype = PRECISIONS[precision]
        config = pipeline.scheduler.config
        self.prediction: Prediction = getattr(config, "prediction_type", "epsilon")
        self._schedule = Schedule(pipeline.scheduler.alphas_cumprod.float().cpu())

    @property
    def unet(self) -> nn.Module:  # to be removed once adapters take `denoiser`
        return self.denoiser

    @property
    def text_encoder(self) -> nn.Module:  # to be removed once adapters take `text_encoders`
        return self.text_encoders[self.family.text_encoders[0]]

    @property
    def components(self) -> dict[str, nn.Module]:
        """What can be trained, by the pipeline's own names: the denoiser, then the text encoders."""
        return {self.family.denoiser: self.denoiser, **self.text_encoders}

    @property
    def schedule(self) -> Schedule:
        return self._schedule

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """τ(y): b texts to (b, l, d) float32, as the pipeline encodes them itself.

        A `ConceptPipeline` has l tokens for each of its layers, and may leave part of the work to `act`.
        """
        with self._autocast():
            return self.pipeline.encode_prompt(list(prompts), self.device, 1, False)[0].float()

    def act(self, state: State) -> Tensor:
        """ẑ_t: (b, c, h, w) float32, whichever of ε, v and x_0 the model was trained to predict."""
        with self._autocast():
            output = self.denoiser(state.x_t, state.timestep, state.embedding, return_dict=False)[0]
        return as_noise(output, state.x_t, self._schedule.level(state.timestep), self.prediction)

    def count_tokens(self, text: str) -> list[int]:
        """The tokens of a text, without the marks of its start and end."""
        return self.pipeline.tokenizer(text, add_special_tokens=False).input_ids

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def load_pipeline(source: str | Path, device: str = "cpu") -> StableDiffusionPipeline:
    """The pipeline of a folder or a hub id, weights in single precision, no safety checker, no progress bar.

    Raises:
        LookforwardError: a part is missing or unreadable, or the hub cannot be reached.
    """
    folder = local_folder(source, _fetch_pipeline)
    if not (folder / "model_index.json").is_file():
        raise LookforwardError(
            f"{folder} has no model_index.json: it is no pipeline folder. Give the folder that diffusers' "
            "save_pretrained wrote, such as RUN/export."
        )
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        raise explain_load_error(folder, FileNotFoundError(f"it has no folder {' and no '.join(missing)}"))
    pipeline = _load_parts(folder)
    check_vocabulary(folder / "tokenizer", pipeline.tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        if missing := [name for name, weight in module.named_parameters() if weight.is_meta]:
            problem = f"{len(missing)} weights of its {type(module).__name__} are missing ({missing[0]}, …)"
            raise explain_load_error(folder, ValueError(problem))
        module.requires_grad_(False).eval()
    _check_kind(folder, pipeline)
    return pipeline.to(device)


def _check_kind(folder: Path, pipeline: StableDiffusionPipeline) -> None:
    """diffusers loads folders of other kinds too, and fails at the first image."""
    unet, latents, words = pipeline.unet.config, pipeline.vae.config, pipeline.text_encoder.config
    kind = ""
    if unet.get("addition_embed_type"):
        kind = "takes further conditions, as Stable Diffusion XL's does"
    elif unet["in_channels"] != latents["latent_channels"]:
        kind = f"takes {unet['in_channels']} channels and not the latents' {latents['latent_channels']}"
    elif unet["cross_attention_dim"] != words.hidden_size:
        kind = f"reads words of {unet['cross_attention_dim']} numbers, and the text encoder's have {words.hidden_size}"
    if kind:
        raise LookforwardError(
            f"{folder} is no text-to-image model of Stable Diffusion 1's or 2's kind: its UNet {kind}. Give such a one."
        )


def _load_parts(folder: Path) -> StableDiffusionPipeline:
    text_encoder = load_weights(CLIPTextModel, folder / "text_encoder")  # diffusers would fill gaps with noise
    try:
        with no_progress_bars(diffusers_logging):
            return StableDiffusionPipeline.from_pretrained(
                str(folder),
                dtype=torch.float32,
                text_encoder=text_encoder,
                safety_checker=None,
                requires_safety_checker=False,
            )
    except Exception as error:  # diffusers raises OSError, ValueError, AttributeError, safetensors' own …
        raise explain_load_error(folder, error) from error


def _fetch_pipeline(name: str, found: ModelInfo | None) -> Path:
    # diffusers knows which of a repository's many weights a pipeline needs
    return Path(StableDiffusionPipeline.download(name, safety_checker=None, local_files_only=found is None))


def forget_origin(folder: Path) -> None:
    """Take out of a saved pipeline's configs where its parts were loaded from: a path of this machine."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
