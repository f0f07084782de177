"""What a result was made by: packages, device, hashes."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lookforward.config.settings import OF_THE_MACHINE, Config

PACKAGES = ("lookforward", "torch", "diffusers", "transformers", "peft", "numpy")
# What differs from cell to cell of a method, or says where files lie
_OF_A_CELL = (
    "photos",
    "class_noun",
    "seed",
    "recipe",
    "checkpoint_every",
    "sample_every",
    "export_every",
    *OF_THE_MACHINE,
)


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that a number may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def config_hash(config: Config) -> str:
    """A short name of a method's settings: alike for all subjects and seeds."""
    values = {name: value for name, value in asdict(config).items() if name not in _OF_A_CELL}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def other_than_default(config: Config) -> dict[str, Any]:
    """The settings of a method that are not the defaults."""
    default: Mapping[str, Any] = asdict(Config())
    return {n: v for n, v in asdict(config).items() if n not in _OF_A_CELL and v != default[n]}


def device_name(device: torch.device) -> str:
    """Such as "cpu, 2 threads" or the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} of {os.cpu_count()} threads"
