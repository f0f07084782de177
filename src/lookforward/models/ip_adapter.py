"""Public IP-Adapter weights (Ye et al., 2023, arXiv 2308.06721), put into a pipeline by diffusers' own loader.

They are named REPOSITORY:FILE, a hub id or a folder, and a safetensors file in it:

    h94/IP-Adapter:models/ip-adapter_sd15.safetensors
    h94/IP-Adapter:sdxl_models/ip-adapter_sdxl.safetensors
    XLabs-AI/flux-ip-adapter:ip_adapter.safetensors
"""

import os
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from lookforward.errors import LookforwardError, first_line
from lookforward.models.encoders import to_pixels
from lookforward.models.families import family_of
from lookforward.models.weight_files import no_progress_bars

ENCODER = "image_encoder"  # its folder beside the weights
_OF_FLUX = "openai/clip-vit-large-patch14"  # the image encoder of XLabs' weights, which bring none
_FAMILIES = ("sd", "sdxl", "flux")


def show_photos_by_ip_adapter(pipeline: Any, given: str, photos: Tensor, scale: float = 1.0) -> Tensor:
    """Let a pipeline draw and train with photos (k, 3, h, w) in [0, 1] beside every prompt; returns their embeddings.

    scale: weight of the photos beside the prompt.

    Raises:
        LookforwardError: the weights cannot be loaded, or are of another model.
    """
    from PIL import Image

    load_ip_adapter(pipeline, given, scale)
    images = [Image.fromarray(one) for one in to_pixels(photos)]
    more = {} if family_of(pipeline).name == "flux" else {"do_classifier_free_guidance": False}
    with torch.no_grad():
        (embeddings,) = pipeline.prepare_ip_adapter_image_embeds([images], None, pipeline.device, 1, **more)
    show_embeddings(pipeline, embeddings)
    return embeddings


def load_ip_adapter(pipeline: Any, given: str, scale: float = 1.0) -> None:
    """Put the weights into a pipeline, which is shown nothing yet.

    Raises:
        LookforwardError: they cannot be loaded, or are of another model.
    """
    family = family_of(pipeline)
    if family.name not in _FAMILIES:
        message = f"IP-Adapter weights are for Stable Diffusion 1, XL and FLUX.1, not for {family.label}."
        raise LookforwardError(message, code="encoder-family")
    if getattr(pipeline, "shown_embeddings", None) is not None:
        raise LookforwardError("The pipeline is shown photos already: load it again.", code="encoder-second")
    source, _, path = given.rpartition(":")
    file = PurePosixPath(path)
    if file.suffix != ".safetensors":  # an export from elsewhere may name a pickle
        raise LookforwardError(f"{given}: give REPOSITORY:FILE.safetensors; other files are not read.", "encoder-name")
    options: dict[str, Any] = {"subfolder": "" if str(file.parent) == "." else str(file.parent)}
    if family.name == "flux":
        own = Path(source) / options["subfolder"] / ENCODER
        options["image_encoder_pretrained_model_name_or_path"] = str(own) if os.path.isdir(own) else _OF_FLUX
    try:
        with no_progress_bars(diffusers_logging, transformers_logging):
            pipeline.load_ip_adapter(source, weight_name=file.name, **options)
    except Exception as error:  # OSError, ValueError, KeyError, RuntimeError, safetensors' and the hub's own
        reason = first_line(error)
        raise LookforwardError(
            f"{given} cannot be loaded into {family.label}: {reason}. Give REPOSITORY:FILE.safetensors, IP-Adapter "
            f"weights for this model, with the folder {ENCODER} beside the file.",
            code="encoder-damaged",
        ) from error
    pipeline.image_encoder.requires_grad_(False)
    pipeline.set_ip_adapter_scale(scale)
    getattr(pipeline, family.denoiser).requires_grad_(False)


def show_embeddings(pipeline: Any, embeddings: Tensor) -> None:
    """Show a pipeline that has IP-Adapter weights the embeddings (1, k, d) of photos, in training too."""
    denoiser: nn.Module = getattr(pipeline, family_of(pipeline).denoiser)
    pipeline.shown_embeddings = embeddings.to(pipeline.device)
    flux = family_of(pipeline).name == "flux"
    group, key = (
        ("joint_attention_kwargs", "ip_adapter_image_embeds") if flux else ("added_cond_kwargs", "image_embeds")
    )

    def show(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        known = kwargs.get(group) or {}
        if key in known or "ip_hidden_states" in known:  # the pipeline itself draws
            return None
        sample = args[0] if args else kwargs["hidden_states"]
        shown = pipeline.shown_embeddings.to(sample).expand(len(sample), -1, -1)
        return args, kwargs | {group: {**known, key: [shown]}}

    pipeline.shown_hook = denoiser.register_forward_pre_hook(show, with_kwargs=True)


def forget_photos(pipeline: Any) -> None:
    """Undo `show_photos_by_ip_adapter`; a pipeline that is shown nothing stays as it is."""
    if getattr(pipeline, "shown_embeddings", None) is not None:
        pipeline.shown_hook.remove()
        pipeline.unload_ip_adapter()
        del pipeline.shown_embeddings, pipeline.shown_hook


def drawn_with_photos(pipeline: Any, guidance: float) -> dict[str, Any]:
    """What the pipeline's call is given beside the prompt; guidance leads away from no prompt and no photo."""
    shown = getattr(pipeline, "shown_embeddings", None)
    if shown is None:
        return {}
    halves = family_of(pipeline).name != "flux" and guidance > 1
    return {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(shown), shown]) if halves else shown]}
