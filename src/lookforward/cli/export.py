"""Turn a finished run into files that other programs read, or into a model with the adapter baked in."""

from pathlib import Path
from typing import Literal

import tyro

from lookforward.cli.console import console, print_notes
from lookforward.errors import LookforwardError


def export(
    run: tyro.conf.Positional[str],
    format: Literal["diffusers", "comfyui", "kohya", "a1111", "merged"],
    output: Path | None = None,
    strength: float | None = None,
) -> None:
    """Write the export of a finished run again, in a layout that another program reads.

    Args:
        run: Run folder or export.
        format: diffusers: as the run wrote it. comfyui: a LoRA as one file, in the layout that ComfyUI reads for the
            model's family. kohya: that of Stable Diffusion 1, 2 and XL, which A1111 reads too. a1111: a learned word as
            one file, for both. merged: a pipeline folder with the adapter baked in.
        output: New folder; RUN/export-FORMAT if not given.
        strength: Of merged, 0 the base model, 1 the trained one; 1 if not given.
    """
    from lookforward.exports.convert import convert
    from lookforward.exports.source import find_source

    source = find_source(run)
    folder = output or Path(run) / f"export-{format}"
    if output is None and source.run is None:
        raise LookforwardError(
            f"{run} is no run folder: say where to write, with --output FOLDER.", code="output-missing"
        )
    convert(source, format, folder, strength)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    console.print(f"{folder}: {', '.join(files)}")


def merge(
    exports: tyro.conf.Positional[tuple[str, ...]],
    output: Path,
    strength: float = 1.0,
) -> None:
    """Bake adapters into their base model: a pipeline folder that plain diffusers loads.

    Args:
        exports: Run folders or exports; EXPORT:STRENGTH for a strength of its own. A whole model goes first.
        output: New folder.
        strength: Of those without one of their own: 0 is the base model, 1 the trained one.
    """
    from lookforward.exports.merge import merge as bake
    from lookforward.exports.source import find_adapter

    if not exports:
        raise LookforwardError("Give the run folders or exports to merge.", code="nothing-to-merge")
    print_notes(bake([find_adapter(given, strength) for given in exports], output))
    console.print(f"Merged into {output}. Load it with StableDiffusionPipeline.from_pretrained({str(output)!r}).")
