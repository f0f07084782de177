"""What a weights file says about itself, in the metadata of its safetensors header."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

KEY = "lookforward"


def read_metadata(weights: Path) -> dict[str, Any]:
    """The JSON under the key "lookforward"; empty if there is none, or if the file cannot be read."""
    try:
        with safe_open(weights, framework="np") as handle:
            return json.loads((handle.metadata() or {}).get(KEY, "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}


def is_evaluation_only(model: Path) -> bool:
    """Whether a model folder holds an encoder that only measures results, such as Toybox's identity encoder."""
    return read_metadata(model / "model.safetensors").get("evaluation_only") is True
