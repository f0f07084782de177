"""What a weights file says about itself, in the metadata of its safetensors header."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lookforward.records import parse_json

KEY = "lookforward"


def read_metadata(weights: Path) -> dict[str, Any]:
    """The JSON under the key "lookforward"; empty if there is none, or if the file cannot be read."""
    try:
        with safe_open(weights, framework="np") as handle:
            found = parse_json((handle.metadata() or {}).get(KEY, "{}"))
            return found if isinstance(found, dict) else {}
    except (OSError, ValueError, SafetensorError):
        return {}


def is_evaluation_only(model: Path) -> bool:
    """Whether a model folder holds an encoder that only measures results, such as Toybox's identity encoder."""
    return read_metadata(model / "model.safetensors").get("evaluation_only") is True
