"""What LoHa, LoKr and OFT share: peft's layers in the model, and an export in peft's own layout.

An export has a folder for each component, under the pipeline's own name for it, with the two files that
`PeftModel.from_pretrained` reads.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from lookforward.adapters.layers import find_layers
from lookforward.errors import LookforwardError, is_out_of_memory
from lookforward.files import read_json, write_json, write_tensors
from lookforward.models.policy import DiffusionPolicy

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
_NAME = "default"
_NOT_OF_WEIGHTS = {  # of peft's settings, that name layers, or how to begin: the file's own weights say both
    "alpha_pattern", "exclude_modules", "init_weights", "layers_pattern", "layers_to_transform", "modules_to_save",
    "rank_pattern", "target_modules",
}  # fmt: skip
_PREFIX = "base_model.model."  # what a PeftModel puts before the names of the model that it wraps


@dataclass(frozen=True)
class PeftAdapter:
    """A change of linear layers that peft knows, beside frozen weights; it begins by changing nothing.

    kind: peft's class of its settings, a `PeftConfig`. options: those settings, without the layers.
    train_text_encoder: whether the text encoders are adapted too. layers: as `find_layers`. generator: on the CPU, the
    first weights depend on it.
    """

    kind: type[Any]
    options: Mapping[str, Any]
    train_text_encoder: bool
    layers: str
    generator: torch.Generator

    @property
    def changes_prompts(self) -> bool:
        return self.train_text_encoder

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        """Raises LookforwardError if `layers` fits no layer."""
        for module in policy.components.values():
            module.requires_grad_(False)
        seed = int(torch.randint(2**62, (), generator=self.generator))
        parameters: dict[str, nn.Parameter] = {}
        with torch.random.fork_rng(devices=[]):  # peft draws on the CPU, from torch's own generator
            torch.manual_seed(seed)
            for part, layers in find_layers(policy, self.train_text_encoder, self.layers).items():
                module = policy.components[part]
                _inject(self.kind(target_modules=layers, **self.options), module)
                module.train(module.training)  # its new layers too
                learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
                for parameter in learned.values():  # peft gives them the frozen layer's format
                    parameter.data = parameter.data.float()
                parameters |= {f"{part}.{name}": p for name, p in learned.items()}
        return parameters

    def detach(self, policy: DiffusionPolicy) -> None:
        for module in policy.components.values():
            _unwrap(module)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        for part, module in policy.components.items():
            if not hasattr(module, "peft_config"):
                continue
            settings: Any = module.peft_config
            (folder / part).mkdir()
            write_json(folder / part / CONFIG, _plain(settings[_NAME]))
            learned = get_peft_model_state_dict(module, adapter_name=_NAME)
            tensors = {_PREFIX + name: tensor.detach() for name, tensor in learned.items()}
            write_tensors(folder / part / WEIGHTS, tensors, {"format": "pt"})


def read_peft(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Of each component of an export its settings and its weights, by the names of the layers.

    Raises:
        LookforwardError: the folder holds no export in peft's layout.
    """
    try:
        found = {
            path.parent.name: (
                read_json(path, dict[str, Any]),
                {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(path.with_name(WEIGHTS)).items()},
            )
            for path in sorted(folder.glob(f"*/{CONFIG}"))
        }
    except Exception as error:  # OSError, ValueError and safetensors' own
        raise LookforwardError(
            f"{folder} cannot be read: {error}. Give RUN/export.", code="export-unreadable"
        ) from error
    if not found:
        raise LookforwardError(
            f"{folder} has no {CONFIG} in a folder of a component: give the export of a run with adapter loha, lokr or "
            "oft.",
            code="export-unreadable",
        )
    return found


def bake(pipeline: Any, folder: Path, strength: float, kind: type[Any], scaled: tuple[str, ...]) -> None:
    """Change the pipeline's own weights as the adapter does, beside those of adapters that it has already.

    strength: 0 leaves the model as it is, 1 is as trained. scaled: the one factor of the change that is multiplied by
    the strength, under peft's name or names for it. The base model that peft's settings name is not looked for.

    Raises:
        LookforwardError: the folder holds no such export, or it does not fit the pipeline.
    """
    holders = []
    for part, (settings, tensors) in read_peft(folder).items():
        layers = _find_all(getattr(pipeline, part, None), {_layer_of(name) for name in tensors}, folder)
        holder = nn.Module()
        for name, layer in layers.items():
            holder.add_module(_key(name), layer)
        taken = kind.__dataclass_fields__.keys() - PeftConfig.__dataclass_fields__.keys() - _NOT_OF_WEIGHTS
        known = {name: value for name, value in settings.items() if name in taken}
        renamed = {
            f"{_key(_layer_of(name))}.{_suffix(name)}": tensor * (strength if _suffix(name) in scaled else 1)
            for name, tensor in tensors.items()
        }
        try:
            with torch.random.fork_rng(devices=[]):
                _inject(kind(**known | {"target_modules": [_key(name) for name in layers]}), holder)
            missed = set(get_peft_model_state_dict(holder, adapter_name=_NAME)) ^ set(renamed)
            set_peft_model_state_dict(holder, renamed, adapter_name=_NAME)
        except Exception as error:  # peft raises anything for settings that it does not expect
            if is_out_of_memory(error):
                raise
            raise _misfit(folder, part) from error
        if missed:
            raise _misfit(folder, part)
        holders.append(holder)
    with torch.no_grad():
        for holder in holders:
            for layer in holder.children():
                assert isinstance(layer, BaseTunerLayer)
                layer.merge()


def _inject(config: PeftConfig, module: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="peft")  # a block that does not fit a layer is made smaller
        inject_adapter_in_model(config, module, _NAME)


def _unwrap(module: Any) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config


def _find_all(module: Any, names: set[str], folder: Path) -> dict[str, nn.Linear]:
    """The layers of a component by name, under the adapters that lie on them."""
    modules = dict(module.named_modules()) if isinstance(module, nn.Module) else {}
    found = {}
    for name in sorted(names):
        # Later versions of transformers left out a level of the text encoder's names
        layer = modules.get(name) or modules.get(f"text_model.{name}") or modules.get(name.removeprefix("text_model."))
        if isinstance(layer, BaseTunerLayer):
            layer = layer.get_base_layer()
        if not isinstance(layer, nn.Linear):
            raise _misfit(folder, name)
        found[name] = layer
    return found


def _layer_of(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[0] if name.endswith(".weight") else name.rpartition(".")[0]


def _suffix(name: str) -> str:
    return name.removeprefix(f"{_layer_of(name)}.")


def _key(name: str) -> str:
    return name.replace(".", "/")  # a module's name has no dots


def _plain(config: PeftConfig) -> dict[str, Any]:
    """The settings as JSON, the same in each process: sets have no order."""
    values = {name: sorted(v) if isinstance(v, set) else v for name, v in config.to_dict().items()}
    return {name: values[name] for name in sorted(values)}


def _misfit(folder: Path, where: str) -> LookforwardError:
    return LookforwardError(
        f"{folder} does not fit this model at {where}: give the base model that it was trained on.",
        code="export-misfit",
    )
