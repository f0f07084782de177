"""An export to the layouts that other programs read."""

import re
import shutil
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file

from lookforward.errors import LookforwardError
from lookforward.exports.card import SAMPLES, Card
from lookforward.exports.kohya import write_kohya
from lookforward.exports.merge import merge
from lookforward.exports.source import Source
from lookforward.exports.write import require_new
from lookforward.files import atomic_folder, write_tensors

Format = Literal["diffusers", "kohya", "a1111", "merged"]
FORMATS: dict[str, tuple[Format, ...]] = {
    "full": ("diffusers", "merged"),
    "lora": ("diffusers", "kohya", "merged"),
    "dora": ("diffusers", "kohya", "merged"),
    "custom-diffusion": ("diffusers", "merged"),
    "textual-inversion": ("diffusers", "a1111", "merged"),
    "p-plus": ("diffusers",),
    "neti": ("diffusers",),
}
_REMEDY = "The export is intact: make room, or give another --output."
EMBEDS = "learned_embeds.safetensors"


def convert(source: Source, layout: Format, folder: Path, strength: float | None = None) -> None:
    """Write a finished export into the new folder `folder` in another layout.

    layout: diffusers: as the run wrote it. kohya: a LoRA as one file. a1111: each learned word as one file.
    merged: a pipeline folder with the adapter baked in, at `strength`, 1 where None.

    Raises:
        LookforwardError: the adapter has no such layout, or `folder` is taken or cannot be written.
    """
    export = source.require_export()
    kind = source.manifest["adapter"]
    has = FORMATS[kind]
    if layout not in has:
        raise LookforwardError(f"The adapter {kind!r} has no format {layout!r}: it has {', '.join(has)}.")
    if strength is not None and layout != "merged":
        raise LookforwardError(f"--strength is of --format merged; {layout!r} leaves it to whoever loads the file.")
    require_new(folder)
    if layout == "merged":
        merge([(source, 1.0 if strength is None else strength)], folder)
        return
    with atomic_folder(folder, _REMEDY) as partial:
        match layout:
            case "diffusers":
                shutil.copytree(export, partial, dirs_exist_ok=True)
            case "kohya":
                name = file_name(source.name)
                write_kohya(export, partial / f"{name}.safetensors", source.subject)
                _write_card(source, partial, _KOHYA.format(name=name))
            case "a1111":
                write_embeddings(export, partial)
                _write_card(source, partial, _A1111)


_KOHYA = """\
ComfyUI: put `{name}.safetensors` into `models/loras` and load it with the node LoraLoader. A1111: put it into
`models/Lora` and write `<lora:{name}:1>` in the prompt."""
_A1111 = """\
ComfyUI: put the file into `models/embeddings` and write `embedding:NAME` in the prompt, NAME being that of the file
without its ending. A1111: put it into `embeddings` and write NAME."""


def _write_card(source: Source, folder: Path, loading: str) -> None:
    settings = source.run.settings if source.run else None
    samples = source.require_export() / SAMPLES
    Card(source.manifest, settings, samples=samples, loading=loading).write(folder)


def write_embeddings(folder: Path, target: Path) -> None:
    """Write each learned word as a file that A1111 and ComfyUI read: a single tensor (vectors, d).

    There, prompts call the word by the file's name.

    Raises:
        LookforwardError: the folder holds no learned word, or two whose files would be of one name.
    """
    paths = sorted(folder.glob("learned_embeds*.safetensors")) or [folder / EMBEDS]
    for path in paths:
        try:
            ((identifier, rows),) = load_file(path).items()
        except Exception as error:  # OSError, safetensors' own, or several tensors
            raise LookforwardError(f"{path} cannot be read: give the export of a learned word.") from error
        file = target / f"{file_name(identifier)}.safetensors"
        if file.exists():
            raise LookforwardError(f"{folder} holds two words that would both be {file.name}: give it in diffusers.")
        write_tensors(file, {identifier: rows.reshape(-1, rows.shape[-1])}, {})


def file_name(identifier: str) -> str:
    """An identifier as the name of a file: "<sks>" becomes "sks"."""
    return re.sub(r"[^\w-]+", "-", identifier).strip("-") or "word"
