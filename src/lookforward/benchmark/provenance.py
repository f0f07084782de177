"""What a result was made by: packages, device, hashes."""

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lookforward.config.settings import FIELDS, Settings

PACKAGES = ("lookforward", "torch", "diffusers", "transformers", "peft", "numpy")


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


def config_hash(settings: Settings) -> str:
    """A short name of a method's settings: alike for all subjects and seeds."""
    values = {name: value for name, value in settings.flat().items() if not FIELDS[name].spec.of_cell}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def other_than_default(settings: Settings) -> dict[str, Any]:
    """The settings of a method that are not the defaults."""
    return {name: value for name, value in settings.changed().items() if not FIELDS[name].spec.of_cell}


def device_name(device: torch.device) -> str:
    """Such as "cpu, 2 threads" or the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} of {os.cpu_count()} threads"
