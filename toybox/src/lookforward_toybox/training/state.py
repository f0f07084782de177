"""The resumable state of a training stage on disk: one safetensors file and one readable JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lookforward.errors import LookforwardError
from lookforward.files import write_json, write_tensors

TENSORS = "state.safetensors"
SUMMARY = "state.json"


def save_state(folder: Path, tensors: Mapping[str, Tensor], summary: dict[str, Any]) -> None:
    """Write both files. The tensor file carries the summary too: it alone decides what is resumed."""
    write_tensors(folder / TENSORS, tensors, {"format": "pt", "lookforward": json.dumps(summary)})
    write_json(folder / SUMMARY, summary)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the summary saved by `save_state`.

    Raises:
        LookforwardError: the folder has no state.
    """
    path = folder / TENSORS
    if not path.is_file():
        raise LookforwardError(f"{folder} has no {TENSORS}; train this stage first.", code="toybox-state-missing")
    with safe_open(path, framework="pt") as handle:
        summary = json.loads(handle.metadata()["lookforward"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    return tensors, summary


def load_settings(folder: Path) -> dict[str, Any]:
    """The settings of a stage, without reading its tensors; steps and minutes are those that it has taken."""
    path = folder / TENSORS
    if not path.is_file():
        raise LookforwardError(f"{folder} has no {TENSORS}; train this stage first.", code="toybox-state-missing")
    with safe_open(path, framework="pt") as handle:
        summary = json.loads(handle.metadata()["lookforward"])
    return summary["settings"] | {"steps": summary["step"], "minutes": round(summary["minutes"], 3)}


def load_averaged(folder: Path, module: nn.Module) -> nn.Module:
    """Fill `module` with the averaged (EMA) weights of a stage, or the plain ones where none were kept."""
    tensors, _ = load_state(folder)
    weights = _under(tensors, "weights.") | _under(tensors, "ema.")
    module.load_state_dict(weights)
    return module.eval()


MOMENTS = ("adam.", "muon.")  # how the names of an optimizer's own tensors begin
_KEPT = {"AdamW": ("adam", ("step", "exp_avg", "exp_avg_sq")), "Muon": ("muon", ("momentum_buffer",))}


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The moments and step counts as `adam.<moment>.<parameter name>`, or `muon.` likewise."""
    prefix, _ = _KEPT[type(optimizer).__name__]
    return {
        f"{prefix}.{key}.{names[parameter]}": value
        for parameter, moments in optimizer.state.items()
        for key, value in moments.items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Fill the moments of the optimizer's own parameters; those that are not among `tensors` start empty."""
    prefix, keys = _KEPT[type(optimizer).__name__]
    for parameter in (one for group in optimizer.param_groups for one in group["params"]):
        kept = {key: tensors.get(f"{prefix}.{key}.{names[parameter]}") for key in keys}
        # Adam keeps its step counts on the processor, wherever the weights are.
        moments = {
            key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
            for key, value in kept.items()
            if value is not None
        }
        if moments:
            optimizer.state[parameter] = moments


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    module.load_state_dict(_under(tensors, "weights."))
