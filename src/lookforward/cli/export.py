"""Convert a finished run for other programs, or merge its adapter into the base model."""

from pathlib import Path
from typing import Any, Literal

import tyro

from lookforward.cli.console import console, print_notes
from lookforward.errors import LookforwardError


def export(
    run: tyro.conf.Positional[str],
    format: Literal["diffusers", "comfyui", "kohya", "a1111", "merged", "checkpoint"],
    output: Path | None = None,
    strength: float | None = None,
) -> None:
    """Convert the export of a finished run to the format of another program.

    Args:
        run: Run folder or export.
        format: diffusers: unchanged. comfyui: a LoRA as one file for ComfyUI. kohya: a LoRA of Stable Diffusion 1, 2 or
            XL as one file for A1111 and ComfyUI. a1111: a learned word as one file for both programs. merged: a
            pipeline folder with the adapter merged into the weights. checkpoint: the same as one file for ComfyUI and
            A1111, of Stable Diffusion 1, 2 or XL.
        output: New folder. Default: RUN/export-FORMAT.
        strength: Only for merged and checkpoint: 0 gives the base model, 1 the trained one. Default: 1.
    """
    from lookforward.exports.convert import convert
    from lookforward.exports.source import find_source
    from lookforward.whole import SUMS

    source = find_source(run)
    folder = output or Path(run) / f"export-{format}"
    if output is None and source.run is None:
        raise LookforwardError(
            f"{run} is not a run folder: give the output folder with --output FOLDER.", code="output-missing"
        )
    print_notes(convert(source, format, folder, strength))
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    console.print(f"{folder}: {', '.join(files)}")


def merge(
    exports: tyro.conf.Positional[tuple[str, ...]],
    output: Path,
    strength: float = 1.0,
) -> None:
    """Merge adapters into their base model, as a pipeline folder that diffusers loads.

    Args:
        exports: Run folders or exports; EXPORT:STRENGTH sets the strength of one. Put a full model first.
        output: New folder.
        strength: Strength of all other exports: 0 gives the base model, 1 the trained one.
    """
    from lookforward.exports.merge import merge as bake
    from lookforward.exports.source import find_adapter
    from lookforward.files import read_json

    if not exports:
        raise LookforwardError("Give the run folders or exports to merge.", code="nothing-to-merge")
    print_notes(bake([find_adapter(given, strength) for given in exports], output))
    kind = read_json(output / "model_index.json", dict[str, Any])["_class_name"]
    console.print(f"Merged into {output}. Load it with {kind}.from_pretrained({str(output)!r}).")
