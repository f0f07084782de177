"""The weights of a LoRA's file: their names, and the scale alpha / rank within them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import get_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedModel

from lookforward.errors import LookforwardError

NAME = "default"  # of the adapter in peft
# peft's names of what is learned to those of diffusers' files, where they differ
_OF_UNET = {".lora_A.weight": ".lora.down.weight", ".lora_B.weight": ".lora.up.weight"}
_OF_TEXT_ENCODER = {
    ".lora_A.weight": ".lora_linear_layer.down.weight",
    ".lora_B.weight": ".lora_linear_layer.up.weight",
    # transformers 5 looks for what the layer itself calls it; others know this name as well
    ".lora_magnitude_vector": ".lora_magnitude_vector.weight",
}


def is_second(name: str) -> bool:
    """Whether a weight of a LoRA's file is the second factor, B."""
    return ".up." in f".{name}" or ".lora_B." in f".{name}"


def folded(name: str, tensor: Tensor, scale: float) -> Tensor:
    """A file's weight: alpha / rank is within B, so that a reader that takes alpha for the rank is right."""
    return tensor * scale if scale != 1 and is_second(name) else tensor


def name_in_file(layer: str) -> str:
    """The name in files of a text encoder's layer: below `text_model`, a level that later versions of transformers left
    out; the projection of the pooled vector was never within it.
    """
    return layer if layer.startswith(("text_model.", "text_projection")) else f"text_model.{layer}"


@torch.no_grad()
def begin_from(
    layers: Mapping[str, Tensor], earlier: Mapping[str, Tensor], settings: Mapping[str, Any], scale: float, folder: Path
) -> None:
    """Fill a run's own layers, by the names of files, from those of an earlier LoRA.

    settings: of its file. scale: alpha / rank of the run.

    Raises:
        LookforwardError: the earlier LoRA has other layers, or another rank.
    """
    differing = sorted(layers.keys() ^ earlier.keys())
    differing = differing or [name for name, tensor in layers.items() if tensor.shape != earlier[name].shape]
    if differing:
        raise LookforwardError(
            f"{folder} is a LoRA of other layers or of another rank than this run's ({differing[0]}, …): give the "
            "adapter.rank, adapter.layers and adapter.train_text_encoder that it was trained with.",
            code="start-misfit",
        )
    for name, tensor in layers.items():
        part = name.partition(".")[0]
        before = settings.get(f"{part}.lora_alpha", 1.0) / settings.get(f"{part}.r", 1.0)
        tensor.copy_(folded(name, earlier[name].to(tensor), before / scale))


def layers_of(module: Any) -> dict[str, Tensor]:
    """What was learned, under the names of diffusers' files."""
    text_encoder = isinstance(module, PreTrainedModel)
    renamed = _OF_TEXT_ENCODER if text_encoder else _OF_UNET if isinstance(module, UNet2DConditionModel) else {}
    layers = {}
    for key, tensor in get_peft_model_state_dict(module, adapter_name=NAME).items():
        for old, new in renamed.items():
            if key.endswith(old):
                key = key.removesuffix(old) + new
                break
        layers[name_in_file(key) if text_encoder else key] = tensor.detach()
    return layers
