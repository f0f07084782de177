"""An exported LoHa or LoKr in LyCORIS' layout, which ComfyUI reads for every family and A1111 for Stable Diffusion."""

from pathlib import Path
from typing import Any

import torch

from lookforward.adapters.comfyui import name_of_layer
from lookforward.adapters.peft_layers import read_peft
from lookforward.core.protocols import Family
from lookforward.files import write_tensors, writing


def write_lycoris(folder: Path, path: Path, trigger: str, family: Family) -> None:
    """Write the export in `folder` to the file `path`. trigger: what prompts call the subject.

    peft's factors have LyCORIS's own names. The scale alpha / rank goes into the first factor, since readers leave it
    out where no factor has a rank; alpha is then the rank, which is a scale of 1.

    Raises:
        LookforwardError: the folder holds no such export, it is of a model without this layout, or the file cannot be
            written.
    """
    tensors: dict[str, torch.Tensor] = {}
    settings: dict[str, Any] = {}
    for part, (settings, learned) in read_peft(folder).items():
        scale = settings["alpha"] / settings["r"]
        for key, tensor in learned.items():
            layer, _, factor = key.rpartition(".")
            name = name_of_layer(part, layer, family)
            first = factor in ("hada_w1_a", "lokr_w1", "lokr_w1_a")
            tensors[f"{name}.{factor}"] = tensor * scale if first else tensor
            tensors[f"{name}.alpha"] = torch.tensor(float(settings["r"]))
    metadata = {
        "format": "pt",
        "ss_network_module": "lycoris.kohya",
        "ss_network_dim": str(settings["r"]),
        "ss_network_alpha": str(settings["r"]),
        "ss_network_args": '{"algo": "%s"}' % settings["peft_type"].lower(),  # noqa: UP031
    }
    metadata |= {"modelspec.trigger_phrase": trigger} if trigger else {}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors, metadata)
