"""Frozen parts of a pipeline in bfloat16 or quantised, by diffusers' and transformers' own quantization configs."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from lookforward.errors import LookforwardError
from lookforward.models.digests import digest_weights, remember_digests
from lookforward.models.packages import require_extra
from lookforward.models.weight_files import explain_load_error, explain_missing, no_progress_bars

NORMS = (nn.GroupNorm, nn.LayerNorm)
_PACKAGES = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}


@dataclass(frozen=True)
class LowPrecision:
    """What some parts of a pipeline are stored in.

    weights: "bf16", "int8", "fp8" or "nf4". precision: what the model computes in, "fp32" or "bf16", and what layers
    that are not quantised are stored in. parts: by the pipeline's own names.

    Raises:
        LookforwardError: a package or a GPU is missing that the format needs, or it does not fit the precision.
    """

    weights: str
    precision: str
    parts: Collection[str]

    def __post_init__(self) -> None:
        if package := _PACKAGES.get(self.weights):
            require_extra(package, f"model.weights = {self.weights!r}")
        if self.weights == "bf16" and self.precision != "bf16":
            raise LookforwardError(
                "model.weights = 'bf16' computes in bfloat16: set model.precision to bf16.", code="settings-conflict"
            )
        if self.weights == "nf4" and not torch.cuda.is_available():
            raise LookforwardError(
                "model.weights = 'nf4' needs a CUDA GPU: use int8, which runs anywhere.", code="device-unusable"
            )

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def config(self, library: Any) -> Any:
        """The quantization config of diffusers or transformers; None for bf16."""
        if self.weights == "bf16":
            return None
        if self.weights == "nf4":
            return library.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.dtype,
            )
        quantization = require_extra("torchao", "model.weights").quantization
        kinds = {"int8": quantization.Int8WeightOnlyConfig, "fp8": quantization.Float8WeightOnlyConfig}
        return library.TorchAoConfig(kinds[self.weights]())

    def load(self, library: str, name: str, folder: Path) -> Any:
        """One part from its folder, frozen; its digests are those of the files.

        Raises:
            LookforwardError: the folder lacks a file or a weight.
        """
        source: Any = diffusers if library == "diffusers" else transformers
        try:
            kind, stored = getattr(source, name), _stored_dtype(folder)
        except (AttributeError, TypeError, OSError, SafetensorError) as error:  # of an index that names no class
            raise explain_load_error(folder, error) from error
        module = _load(kind, folder, dtype=stored)
        digests = digest_weights(module.parameters())
        if self.weights == "bf16":
            module = module.to(torch.bfloat16)
        else:
            del module  # before the second copy: only one is in memory
            module = _load(kind, folder, dtype=self.dtype, quantization_config=self.config(source))
        for one in module.modules():
            if isinstance(one, NORMS):  # on a CPU they take no bfloat16 beside single precision
                one.float()
        remember_digests(module, digests)
        return module.requires_grad_(False).eval()


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()  # torchao's quantizer would have bf16 alone, and computes in fp32 as well
    transformers_logging.set_verbosity_error()
    try:
        with no_progress_bars(diffusers_logging, transformers_logging):
            module, info = kind.from_pretrained(str(folder), output_loading_info=True, **options)
    except Exception as error:
        raise explain_load_error(folder, error) from error
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
    if info["missing_keys"]:
        raise explain_missing(folder, module, sorted(info["missing_keys"]))
    return module


def _stored_dtype(folder: Path) -> torch.dtype:
    """What the files of a part hold, so that it is no larger in memory than on disk: single precision if mixed."""
    found = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return torch.bfloat16 if found == {"BF16"} else torch.float16 if found == {"F16"} else torch.float32


def has_low_precision(module: torch.nn.Module) -> bool:
    """Whether a part computes in bfloat16 unless it is asked otherwise."""
    return any(parameter.dtype == torch.bfloat16 for parameter in module.parameters())
