"""An exported LoRA or DoRA as one file, in the layout that ComfyUI reads for the model's family.

A family's `comfyui` says how that layout calls its parts. Where the name ends in an underscore, it is the layout of
kohya's scripts, which A1111 reads too: modules joined by underscores, and alpha beside each pair of matrices. Where it
ends in a dot, modules keep diffusers' names, and B is multiplied by alpha / rank, since not every reader of that layout
looks for alpha.

diffusers has a converter to kohya's layout, `convert_state_dict_to_kohya`, which is not used here: it writes the rank
in the place of alpha, calls the text encoder as Stable Diffusion XL does (lora_te1), and leaves a DoRA's magnitudes
under a name that nobody reads.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lookforward.adapters.lora import read_lora
from lookforward.adapters.lora_files import name_in_file
from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors, writing

_SCALE = "dora_scale"
_PROJECTION = "text_projection"
# diffusers' names of what is learned to kohya's
_SUFFIXES = {
    ".lora.down.weight": "lora_down.weight",
    ".lora.up.weight": "lora_up.weight",
    ".lora_A.weight": "lora_down.weight",
    ".lora_B.weight": "lora_up.weight",
    ".lora_linear_layer.down.weight": "lora_down.weight",
    ".lora_linear_layer.up.weight": "lora_up.weight",
    ".lora_magnitude_vector": _SCALE,
    ".lora_magnitude_vector.weight": _SCALE,
}


def require_kohya(family: Family) -> None:
    """Raises LookforwardError where the family's layout is not that of kohya's scripts."""
    if not is_kohya(family):
        raise LookforwardError(
            f"{family.label} has no kohya layout, which is for Stable Diffusion's LoRAs: take --format comfyui.",
            code="format-family",
        )


def write_comfyui(folder: Path, path: Path, trigger: str, family: Family) -> None:
    """Write the export in `folder` to the file `path`. trigger: what prompts call the subject; "" if nothing.

    Raises:
        LookforwardError: the folder holds no LoRA of this family, or the file cannot be written.
    """
    layers, settings = read_lora(folder)
    alphas = {part: settings[f"{part}.lora_alpha"] for part in family.comfyui if f"{part}.lora_alpha" in settings}
    tensors = to_comfyui(layers, alphas, family)
    ranks = {len(t) for name, t in layers.items() if _SUFFIXES.get(_suffix(name)) == "lora_down.weight"}
    named = set(alphas.values()) if is_kohya(family) else ranks  # within the matrices, alpha is the rank
    metadata = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": ", ".join(map(str, sorted(ranks))),
        "ss_network_alpha": ", ".join(str(float(alpha)) for alpha in sorted(named)),
    }
    metadata |= about_the_base(tensors) | ({"modelspec.trigger_phrase": trigger} if trigger else {})
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, metadata)


def is_kohya(family: Family) -> bool:
    return any(prefix.endswith("_") for prefix in family.comfyui.values())


def about_the_base(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Which Stable Diffusion it is for, by which A1111 sorts LoRAs: the width of the text that the UNet looks at."""
    widths = {t.shape[1] for name, t in tensors.items() if name.endswith("attn2_to_k.lora_down.weight")}
    versions = {768: "sd_v1", 1024: "sd_v2", 2048: "sdxl_base_v1-0"}
    version = versions.get(next(iter(widths))) if len(widths) == 1 else None
    return {"ss_base_model_version": version, "ss_v2": str(version == "sd_v2")} if version else {}


def to_comfyui(layers: Mapping[str, Tensor], alphas: Mapping[str, float], family: Family) -> dict[str, Tensor]:
    """diffusers' names to those of the family's layout, with alpha beside the matrices or within them.

    layers: as in `pytorch_lora_weights.safetensors`; alphas: of the family's parts, the rank where not given. A DoRA's
    magnitudes (out,) become (out, 1), by which readers know that they belong to the rows.

    Raises:
        LookforwardError: a name is none that diffusers writes for a LoRA of this family.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in layers.items():
        part, _, rest = key.partition(".")
        suffix = _suffix(rest)
        kind = _SUFFIXES.get(suffix)
        if kind is None:
            raise _unread(key, family)
        name = name_of_layer(part, rest.removesuffix(suffix), family)
        kohya = name.startswith("lora_")
        if kohya and kind == "lora_down.weight":
            tensors[f"{name}.alpha"] = torch.tensor(float(alphas.get(part, len(tensor))))
        if not kohya and kind == "lora_up.weight":
            rank = tensor.shape[1]
            tensor = tensor * (alphas.get(part, rank) / rank)
        learned = kind if kohya or kind == _SCALE else suffix.removeprefix(".")
        tensors[f"{name}.{learned}"] = tensor.reshape(-1, 1) if kind == _SCALE else tensor
    return tensors


def name_of_layer(part: str, layer: str, family: Family) -> str:
    """The name in the family's layout of a layer of a component: "lora_unet_mid_block_…".

    Raises:
        LookforwardError: ComfyUI reads no layers of such a component.
    """
    prefix = family.comfyui.get(part)
    if prefix is None:
        raise _unread(f"{part}.{layer}", family)
    if part in family.text_encoders:  # CLIP's, the only ones of which ComfyUI reads layers
        layer = name_in_file(layer)
        if layer == _PROJECTION:  # ComfyUI has no other name for it
            return f"lora_te{family.text_encoders.index(part) + 1}_{layer}"
    return prefix + (layer.replace(".", "_") if prefix.endswith("_") else layer)


def _unread(name: str, family: Family) -> LookforwardError:
    return LookforwardError(
        f"{name!r} is not a layer that ComfyUI reads for {family.label}: take --format diffusers or merged.",
        code="format-family",
    )


def _suffix(name: str) -> str:
    """What of a name follows its module: ".lora_A.weight"; "" if it is none that is known."""
    return next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
