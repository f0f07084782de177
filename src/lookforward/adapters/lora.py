"""LoRA (Hu et al., 2022) and DoRA (Liu et al., 2024): low-rank changes beside frozen weights, through peft."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from lookforward.adapters.layers import find_layers
from lookforward.adapters.lora_files import NAME, begin_from, folded, layers_of
from lookforward.adapters.specs import DORA
from lookforward.errors import LookforwardError, first_line, is_out_of_memory
from lookforward.files import write_tensors
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.weight_files import no_progress_bars

WEIGHTS = "pytorch_lora_weights.safetensors"  # diffusers' name for it
_SETTINGS = "lora_adapter_metadata"  # where diffusers looks for them


@dataclass(frozen=True)
class LoraAdapter:
    """A change BA of rank r beside each attention projection W: W + (alpha / rank)·BA.

    With dora, that sum gives only the direction of each row; its length is learned apart from it.

    Args:
        rank: r ≥ 1. alpha: > 0, how much the change counts.
        train_text_encoder: whether the attention of the text encoders is adapted as well as the denoiser's.
        dora: lengths and directions apart.
        generator: on the CPU; A is drawn from it when the adapter is attached, B begins at zero.
        layers: as `find_layers`; the family's own if empty. start: folder of an earlier LoRA to begin from.

    Raises:
        LookforwardError: rank or alpha is out of range.
    """

    rank: int
    alpha: float
    train_text_encoder: bool
    dora: bool
    generator: torch.Generator
    layers: str = ""
    start: str = ""

    def __post_init__(self) -> None:
        check_rank(self.rank, self.alpha)

    @property
    def changes_prompts(self) -> bool:
        return self.train_text_encoder

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        for module in policy.components.values():
            module.requires_grad_(False)
        parameters: dict[str, nn.Parameter] = {}
        for part, targets in find_layers(policy, self.train_text_encoder, self.layers).items():
            module: Any = policy.components[part]
            config = LoraConfig(**self._settings(targets))
            with torch.random.fork_rng(devices=[]):  # peft draws on the CPU, from torch's own generator
                module.add_adapter(config, adapter_name=NAME)
            module.train(module.training)  # its new layers too
            learned = {f"{part}.{name}": p for name, p in module.named_parameters() if ".lora_" in name}
            parameters |= learned
        for parameter in parameters.values():
            parameter.requires_grad_(True)
            # peft makes it as the layer beside it is, which may be in low precision, or off the device
            parameter.data = parameter.data.to(policy.device, torch.float32)
        for name in sorted(parameters):
            if ".lora_A." in name:
                self._draw(parameters[name])
        if self.start:
            folder = Path(self.start) / "export" if os.path.isdir(Path(self.start) / "export") else Path(self.start)
            begin_from(self._named_layers(policy), *read_lora(folder), self.alpha / self.rank, folder)
        return parameters

    def _named_layers(self, policy: DiffusionPolicy) -> dict[str, Tensor]:
        parts = [(part, one) for part, one in policy.components.items() if NAME in getattr(one, "peft_config", {})]
        return {f"{part}.{name}": tensor for part, one in parts for name, tensor in layers_of(one).items()}

    def detach(self, policy: DiffusionPolicy) -> None:
        policy.pipeline.unload_lora_weights()

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        layers: dict[str, Tensor] = {}
        settings: dict[str, Any] = {}
        for part, module in policy.components.items():
            peft_settings = getattr(module, "peft_config", {})
            if NAME not in peft_settings:
                continue
            layers |= {
                f"{part}.{name}": folded(name, tensor, self.alpha / self.rank)
                for name, tensor in layers_of(module).items()
            }
            targets = (
                find_layers(policy, self.train_text_encoder, "")[part]
                if not self.layers
                else sorted(peft_settings[NAME].target_modules)
            )
            # Not all of peft's settings: one that an older peft does not know would keep it from loading the file
            written = {**self._settings(targets), "lora_alpha": float(self.rank)}
            settings |= {f"{part}.{name}": value for name, value in written.items()}
        metadata = {"format": "pt", _SETTINGS: json.dumps(settings, indent=2, sort_keys=True)}
        write_tensors(folder / WEIGHTS, layers, metadata)

    def _settings(self, targets: list[str]) -> dict[str, Any]:
        return {"r": self.rank, "lora_alpha": self.alpha, "target_modules": targets, "use_dora": self.dora}

    @torch.no_grad()
    def _draw(self, parameter: Tensor) -> None:
        # As in diffusers' training script, init_lora_weights="gaussian"
        parameter.copy_(torch.randn(parameter.shape, generator=self.generator) / self.rank)


def check_rank(rank: int, alpha: float) -> None:
    """Raises LookforwardError for a rank under 1 or an alpha that is not above 0."""
    if rank < 1:
        raise LookforwardError(f"adapter.rank = {rank} must be at least 1.", code="setting-range")
    if not alpha > 0:
        raise LookforwardError(f"adapter.alpha = {alpha} must be greater than 0.", code="setting-range")


def build_lora(settings: Any, generator: torch.Generator) -> LoraAdapter:
    """The adapter of a run's settings, LoRA or DoRA."""
    chosen = settings.adapter
    dora = chosen.name == DORA.name
    return LoraAdapter(
        chosen.rank, chosen.alpha, chosen.train_text_encoder, dora, generator, chosen.layers, chosen.start
    )


def load_lora(pipeline: Any, folder: Path, strength: float = 1.0) -> str:
    """Put an exported LoRA or DoRA into a pipeline, beside those it already has; returns its name there.

    strength: 0 is the untouched model, 1 the trained one. Of a DoRA, the lengths are taken as much of the way as
    the change of direction, which `pipeline.set_adapters` would not do.

    Raises:
        LookforwardError: the folder holds no such export, or it does not fit the pipeline.
    """
    layers, _ = read_lora(folder)
    _require_fit(pipeline, layers, folder)
    name = f"lora_{len({name for part in pipeline.get_list_adapters().values() for name in part})}"
    # The layers begin with numbers from torch's own generator, before they are filled
    try:
        with torch.random.fork_rng(devices=[]), _quietly():
            pipeline.load_lora_weights(str(folder), weight_name=WEIGHTS, adapter_name=name)
    except Exception as error:  # diffusers and peft raise anything for names and shapes that they do not expect
        if is_out_of_memory(error):
            raise
        raise LookforwardError(
            f"{folder / WEIGHTS} does not fit this model ({first_line(error)}): give the base model that it was "
            "trained on, or export it again.",
            code="export-misfit",
        ) from error
    for layer in _lora_layers(pipeline):
        layer.set_adapter(list(layer.lora_A.keys()))  # those of before as well
        if name in layer.lora_A:
            _set_strength(layer, name, strength)
    for module in _modules(pipeline):
        module.requires_grad_(False).eval()
    return name


def merge_lora(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """Bake an exported LoRA or DoRA, and those that were loaded before it, into the pipeline's own weights.

    Raises:
        LookforwardError: as `load_lora`.
    """
    load_lora(pipeline, folder, strength)
    for layer in _lora_layers(pipeline):
        layer.merge()
    pipeline.unload_lora_weights()


def read_lora(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The layers of an export under the names of diffusers' files, and the settings of each part.

    Raises:
        LookforwardError: the folder holds no LoRA.
    """
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            settings = json.loads((file.metadata() or {}).get(_SETTINGS, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, settings  # noqa: SIM118
    except Exception as error:  # OSError and safetensors' own
        raise LookforwardError(
            f"{folder / WEIGHTS} cannot be read: give the export of a run with adapter lora or dora.",
            code="export-unreadable",
        ) from error


def _require_fit(pipeline: Any, layers: dict[str, Tensor], folder: Path) -> None:
    # diffusers would say so in a hundred lines, and leave half of the layers in the pipeline
    for key, tensor in layers.items():
        part, _, name = key.partition(".")
        path = name.partition(".lora")[0]
        module: Any = getattr(pipeline, part, None)
        if not hasattr(module, "text_model"):
            path = path.removeprefix("text_model.")
        for step in path.split("."):
            module = getattr(module, step, None)
        side, axis = ("in_features", 1) if ".down." in name or ".lora_A." in name else ("out_features", 0)
        if tensor.ndim <= axis or tensor.shape[axis] != getattr(module, side, None):
            raise LookforwardError(
                f"{folder / WEIGHTS} does not fit this model at {path}: give the base model that it was trained on.",
                code="export-misfit",
            )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of diffusers and peft about a text encoder that is not adapted, or a second adapter."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)  # what it cannot load becomes an error of ours
    try:
        with warnings.catch_warnings(), no_progress_bars(diffusers_logging, transformers_logging):
            warnings.filterwarnings("ignore", module="peft")
            yield
    finally:
        diffusers_logging.set_verbosity(verbosity)


def _set_strength(layer: Any, name: str, strength: float) -> None:
    if name in layer.lora_magnitude_vector:
        magnitude = layer.lora_magnitude_vector[name].weight.data  # (out,)
        length = torch.linalg.norm(layer.get_base_layer().weight.data, dim=1)
        magnitude.copy_(torch.lerp(length, magnitude, strength))
    layer.set_scale(name, strength)


def _lora_layers(pipeline: Any) -> list[Any]:
    return [layer for module in _modules(pipeline) for layer in module.modules() if isinstance(layer, LoraLayer)]


def _modules(pipeline: Any) -> list[nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
