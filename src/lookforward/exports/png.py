"""A drawn image as a PNG file that says how it was drawn, and what such a file says."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from lookforward.errors import LookforwardError

_CHUNK = "lookforward"  # our own, JSON
_SHEET = "lookforward sheet"  # a hash of how its images were drawn
_SHOWN = "parameters"  # what viewers of generated images show
# The names by which those viewers know the samplers
_SAMPLERS = {"ddim": "DDIM", "ddpm": "DDPM", "dpm++": "DPM++ 2M", "euler": "Euler", "unipc": "UniPC"}


@dataclass(frozen=True)
class Drawing:
    """How an image was drawn. Folders are told by their last name only: images are shown to others."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    scheduler: str
    size: int  # pixels of a side
    model: str
    model_hash: str  # of weights, noise schedule and vocabulary
    negative: str = ""
    adapters: list[dict[str, Any]] = field(default_factory=list)  # name, adapter, strength, hash
    version: str = ""

    def shown(self) -> str:
        """Prompt, negative prompt and settings as viewers know them."""
        settings = {
            "Steps": self.steps,
            "Sampler": _SAMPLERS.get(self.scheduler, self.scheduler),
            "CFG scale": f"{self.guidance:g}",
            "Seed": self.seed,
            "Size": f"{self.size}x{self.size}",
            "Model hash": self.model_hash,
            "Model": _one_value(self.model),
        }
        if self.adapters:
            told = " ".join(f"{a['name']} ({a['adapter']}, {a['strength']:g})" for a in self.adapters)
            settings["Adapters"] = _one_value(told)
        settings["Version"] = f"lookforward {self.version}"
        lines = [self.prompt, *([f"Negative prompt: {self.negative}"] if self.negative else [])]
        return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in settings.items())])


def save_picture(path: Path, pixels: NDArray[np.uint8], drawing: Drawing) -> None:
    """Write an image, (h, w, 3) uint8, with its settings. The same image and settings give the same file.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    notes = PngInfo()
    notes.add_text(_CHUNK, json.dumps({"format": 1, **asdict(drawing)}))  # ASCII: other letters are escaped
    notes.add_text(_SHOWN, drawing.shown())
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=notes)


def save_sheet(path: Path, sheet: Image.Image, drawings: Sequence[Drawing]) -> Path:
    """Write a sheet of these images; returns where: under a number, if `path` holds another one.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    said = json.dumps([asdict(replace(drawing, version="")) for drawing in drawings])
    shown = hashlib.sha256(said.encode()).hexdigest()
    notes = PngInfo()
    notes.add_text(_SHEET, shown)
    place, number = path, 1
    while place.exists() and _shown_on(place) != shown:
        number += 1
        place = path.with_name(f"{path.stem}-{number}.png")
    sheet.save(place, format="PNG", pnginfo=notes)
    return place


def _shown_on(path: Path) -> str:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.text.get(_SHEET, "") if isinstance(image, PngImageFile) else ""
    except Exception:  # Pillow tells of damage by SyntaxError and others
        return ""


def read_settings(path: str | Path) -> Drawing:
    """How an image of `lookforward generate` was drawn.

    Raises:
        LookforwardError: the file is no PNG, or does not say how lookforward drew it.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            text = image.text if isinstance(image, PngImageFile) else {}
        record = json.loads(text[_CHUNK])
        return cattrs.structure(record, Drawing)
    except OSError as error:
        raise LookforwardError(f"{path} cannot be read as a PNG file; check the path.") from error
    except Exception as error:  # Pillow tells of damage by SyntaxError and others, cattrs by a group of errors
        raise LookforwardError(
            f"{path} does not say how it was drawn: give an image of `lookforward generate` as it was written."
        ) from error


def _one_value(text: str) -> str:
    """Commas and colons separate the settings: a name that holds one is quoted, as viewers expect it."""
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text
