"""PNG metadata: a drawn image records how it was drawn, and is read back."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, structure
from lookforward.provenance.origin import Origin
from lookforward.provenance.save import save_image

_SETTINGS = "lookforward"  # our own text chunk, JSON
_SHEET = "lookforward sheet"  # a hash of how the sheet's images were drawn
_PARAMETERS = "parameters"  # what viewers of generated images show
# The names by which those viewers know the samplers
_SAMPLERS = {"ddim": "DDIM", "ddpm": "DDPM", "dpm++": "DPM++ 2M", "euler": "Euler", "unipc": "UniPC"}


@dataclass(frozen=True)
class _Adapter:
    """What is recorded of an adapter that drew the image."""

    name: str
    adapter: str
    strength: float
    hash: str = ""


@dataclass(frozen=True)
class PngMetadata:
    """How an image was drawn. Of folders it stores the name only, since images are shown to others.

    size: pixels of a side. model_hash: of weights, noise schedule and vocabulary. adapters: of each its name, adapter,
    strength and hash. run: the run or model that drew it, by name. watermark: whether it carries the invisible one.
    safety_checker: whether the model's own has looked at it.
    """

    prompt: str
    seed: int
    steps: int
    guidance: float
    scheduler: str
    size: int
    model: str
    model_hash: str
    negative: str = ""
    adapters: list[dict[str, Any]] = field(default_factory=list)
    version: str = ""
    run: str = ""
    watermark: bool = False
    safety_checker: bool = False

    def text(self) -> dict[str, str]:
        """The text chunks of a PNG file, by name."""
        record = {"format": 1, **asdict(self)}
        return {_SETTINGS: json.dumps(record), _PARAMETERS: self.parameters()}  # JSON escapes all but ASCII

    def origin(self) -> Origin:
        """The same for XMP."""
        names = ("steps", "guidance", "scheduler", "size", "negative", "safety_checker")
        return Origin(
            "image",
            model=self.model,
            model_hash=self.model_hash,
            adapters=self.adapters,
            run=self.run,
            prompts=[self.prompt],
            seeds=[self.seed],
            settings={name: getattr(self, name) for name in names if getattr(self, name)},
            watermark=self.watermark,
            version=self.version,
        )

    def parameters(self) -> str:
        """Prompt, negative prompt and settings in the form that viewers know."""
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
            adapters = " ".join(f"{a['name']} ({a['adapter']}, {a['strength']:g})" for a in self.adapters)
            settings["Adapters"] = _one_value(adapters)
        settings["Version"] = f"lookforward {self.version}"
        lines = [self.prompt, *([f"Negative prompt: {self.negative}"] if self.negative else [])]
        return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in settings.items())])


def write_png(path: Path, pixels: NDArray[np.uint8], metadata: PngMetadata) -> None:
    """Write an image, (h, w, 3) uint8, with its metadata. The same image and metadata give the same bytes.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    with atomic_file(path, shared=True) as partial:
        save_image(pixels, partial, metadata.origin(), format="PNG", text=metadata.text())


def write_sheet(path: Path, sheet: Image.Image, metadata: Sequence[PngMetadata]) -> Path:
    """Write a sheet of images; returns its path, with a number if `path` has another sheet.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    drawn = json.dumps([asdict(replace(one, version="")) for one in metadata])
    digest = hashlib.sha256(drawn.encode()).hexdigest()
    place, number = path, 1
    while place.exists() and _sheet_digest(place) != digest:
        number += 1
        place = path.with_name(f"{path.stem}-{number}.png")
    with atomic_file(place, shared=True) as partial:
        save_image(sheet, partial, sheet_origin("sheet", metadata), format="PNG", text={_SHEET: digest})
    return place


def sheet_origin(kind: str, metadata: Sequence[PngMetadata]) -> Origin:
    """The origin of a sheet of images that were drawn with the same settings but for prompts and seeds.

    Its images are smaller than they were drawn, so that it carries no watermark of its own.
    """
    prompts, seeds = [one.prompt for one in metadata], [one.seed for one in metadata]
    return replace(metadata[0].origin(), kind=kind, prompts=prompts, seeds=seeds, watermark=False)


def read_metadata(path: str | Path) -> PngMetadata:
    """How an image of `lookforward generate` was drawn.

    Raises:
        LookforwardError: the file is not a PNG, or has no metadata of lookforward.
    """
    try:
        record = json.loads(_text(path)[_SETTINGS])
        del record["format"]
        structure(record.get("adapters", []), list[_Adapter], path)
        return structure(record, PngMetadata, path)
    except OSError as error:
        raise LookforwardError(f"{path} cannot be read as a PNG file: check the path.", "png-unreadable") from error
    except Exception as error:  # Pillow raises SyntaxError and others for damaged files
        raise LookforwardError(
            f"{path} has no generation metadata: give an unchanged PNG file from `lookforward generate`.",
            "png-metadata",
        ) from error


def _text(path: str | Path) -> dict[str, str]:
    with Image.open(path, formats=["PNG"]) as image:
        return dict(image.text) if isinstance(image, PngImageFile) else {}


def _sheet_digest(path: Path) -> str:
    try:
        return _text(path).get(_SHEET, "")
    except Exception:  # as above
        return ""


def _one_value(text: str) -> str:
    """Quote a name with a comma or colon, since these separate the settings; viewers expect that."""
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text
