"""An exported LoRA or DoRA in the layout of kohya's scripts, which ComfyUI and A1111 read.

diffusers has a converter to it, `convert_state_dict_to_kohya`, which is not used here: it writes the rank in the
place of alpha, calls the text encoder as Stable Diffusion XL does (lora_te1), and leaves a DoRA's magnitudes under a
name that nobody reads.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lookforward.adapters.lora import read_lora
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors, writing
from lookforward.models.families.sd import SD

_DENOISER, _ENCODER = SD.denoiser, SD.text_encoders[0]
_PARTS = {_DENOISER: "lora_unet", _ENCODER: "lora_te"}
_SUFFIXES = {
    ".lora.down.weight": "lora_down.weight",
    ".lora.up.weight": "lora_up.weight",
    ".lora_linear_layer.down.weight": "lora_down.weight",
    ".lora_linear_layer.up.weight": "lora_up.weight",
    ".lora_magnitude_vector": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
}


def write_kohya(folder: Path, path: Path, trigger: str = "") -> None:
    """Write the export in `folder` to the file `path` in kohya's layout. trigger: what prompts call the subject.

    Raises:
        LookforwardError: the folder holds no LoRA, or the file cannot be written.
    """
    layers, settings = read_lora(folder)
    alphas = {part: settings[f"{part}.lora_alpha"] for part in _PARTS if f"{part}.lora_alpha" in settings}
    tensors = to_kohya(layers, alphas)
    ranks = sorted({len(t) for name, t in tensors.items() if name.endswith("lora_down.weight")})
    metadata = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": ", ".join(map(str, ranks)),
        "ss_network_alpha": ", ".join(str(alpha) for alpha in sorted(set(alphas.values()))),
    }
    metadata |= about_the_base(tensors) | ({"modelspec.trigger_phrase": trigger} if trigger else {})
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, metadata)


def about_the_base(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Which Stable Diffusion it is for, by which A1111 sorts LoRAs: the width of the text that the UNet looks at."""
    widths = {t.shape[1] for name, t in tensors.items() if name.endswith("attn2_to_k.lora_down.weight")}
    version = {768: "sd_v1", 1024: "sd_v2"}.get(next(iter(widths))) if len(widths) == 1 else None
    return {"ss_base_model_version": version, "ss_v2": str(version == "sd_v2")} if version else {}


def name_of_layer(part: str, layer: str) -> str:
    """kohya's name of a layer of a component: "lora_unet_mid_block_…".

    Raises:
        LookforwardError: Stable Diffusion 1 or 2 has no such component.
    """
    if part not in _PARTS:
        message = f"{part!r} is no component of {SD.label}: only those have kohya's layout."
        raise LookforwardError(message, code="format-family")
    if part == _ENCODER and not layer.startswith("text_model."):
        layer = f"text_model.{layer}"
    return f"{_PARTS[part]}_{layer.replace('.', '_')}"


def to_kohya(layers: Mapping[str, Tensor], alphas: Mapping[str, float]) -> dict[str, Tensor]:
    """diffusers' names to kohya's, with a scalar alpha beside each pair of matrices.

    layers: as in `pytorch_lora_weights.safetensors`; alphas: of denoiser and text encoder, the rank if
    not given. A DoRA's magnitudes (out,) become (out, 1), by which readers know that they belong to the rows.

    Raises:
        LookforwardError: a name is none that diffusers writes for Stable Diffusion 1 or 2.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in layers.items():
        part, _, rest = key.partition(".")
        suffix = next((suffix for suffix in _SUFFIXES if rest.endswith(suffix)), None)
        if part not in _PARTS or suffix is None:
            message = f"{key!r} is not a layer of a LoRA for {SD.label}: only those have kohya's layout."
            raise LookforwardError(message, code="format-family")
        name, kind = name_of_layer(part, rest.removesuffix(suffix)), _SUFFIXES[suffix]
        tensors[f"{name}.{kind}"] = tensor.reshape(-1, 1) if kind == "dora_scale" else tensor
        if kind == "lora_down.weight":
            tensors[f"{name}.alpha"] = torch.tensor(float(alphas.get(part, len(tensor))))
    return tensors
