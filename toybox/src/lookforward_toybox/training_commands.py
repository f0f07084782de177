"""Commands that draw what the models are trained on, train them, and show how the training went."""

from pathlib import Path
from typing import Any, Literal

from lookforward.config.reading import check_number
from lookforward.errors import LookforwardError
from lookforward.files import writing
from lookforward_toybox.commands import PICTURES, SEEDS, console, require_place
from lookforward_toybox.models import Side
from lookforward_toybox.progress import track

_COUNT = "[1, 100000000]"


def draw(
    count: int = 80_000,
    folder: Path = Path("build/toybox"),
    seed: int = 0,
    workers: int = 2,
    edition: Side = 64,
) -> None:
    """Render the images that the models are trained on.

    Args:
        count: Number of images.
        folder: Training folder; the images go into its subfolder data.
        seed: Random seed. The same seed renders the same images.
        workers: Number of processes.
        edition: Edition of the world: width and height of its images in pixels.
    """
    from lookforward_toybox.draw import draw_world

    for name, number, within in (("count", count, _COUNT), ("workers", workers, "[1, 512]"), ("seed", seed, SEEDS)):
        check_number(name, number, within)
    from lookforward_toybox.world.edition import EDITIONS

    with track("drawing", count, console) as show:
        draw_world(folder / "data", count, seed=seed, workers=workers, edition=EDITIONS[edition], show=show)
    console.print(f"{count} images in {folder / 'data'}")


def train_stage(
    stage: Literal["vae", "clip", "dino", "judge", "identity", "unet", "transformer", "decoder", "all"],
    folder: Path = Path("build/toybox"),
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    real_photos: Path | None = None,
    init: Path | None = None,
    edition: Side = 64,
) -> None:
    """Train one stage, or all in order, and export to FOLDER/export. Run the same command again to resume.

    Args:
        stage: Stage to train, or all in this order. unet (64 pixels) needs vae and clip; transformer (128 pixels) also
            needs dino.
        folder: Training folder, with data from `lookforward toybox draw`.
        minutes: Training time of the stage. Default: that of the shipped models.
        seed: Random seed of the stage.
        device: cpu, cuda, mps, or auto for an accelerator if there is one.
        real_photos: Folder of real photos to mix into the batches of the autoencoder.
        init: Folder with earlier exports (pipeline, clip, dino) to start from; 64 pixels only. Default: random weights.
        edition: Image size in pixels: 64 trains a Stable Diffusion 1 UNet, 128 a flow transformer.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from lookforward.models.load_pipeline import find_device
    from lookforward.models.weight_files import no_progress_bars
    from lookforward_toybox.training.stages import MINUTES
    from lookforward_toybox.training.stages import train_stage as run_stage
    from lookforward_toybox.training.stages_128 import MINUTES_128, train_stage_128

    check_number("minutes", minutes, "(0, 100000]")
    check_number("seed", seed, SEEDS)
    device = find_device(device)
    with no_progress_bars(diffusers_logging, transformers_logging):  # of files that are there in a moment
        stages = MINUTES if edition == 64 else MINUTES_128
        for name in stages if stage == "all" else (stage,):
            if name not in stages:
                raise LookforwardError(
                    f"--stage {name}: the {edition}-pixel models have {', '.join(stages)}.", code="option-range"
                )
            if edition == 128 and init is not None:
                raise LookforwardError("--init is for the 64-pixel models only; leave it out.", code="option-range")
            common: dict[str, Any] = {"minutes": minutes, "seed": seed, "device": device, "photos": real_photos}
            rows = (
                run_stage(name, folder, init=init, **common)
                if edition == 64
                else train_stage_128(name, folder, **common)
            )
            for i, row in enumerate(rows):
                if i % 10 == 9:
                    terms = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
                    console.print(f"{name}: {terms}")
            console.print(f"{name}: exported to {folder / 'export'}")


def curves(folder: Path = Path("build/toybox"), output: Path = Path("curves.png")) -> None:
    """Plot the training loss of every stage, of either edition.

    Args:
        folder: Training folder.
        output: Image file to write.
    """
    from lookforward.files import read_json_lines
    from lookforward.report.curves import curves as plot
    from lookforward_toybox.training.stages import MINUTES
    from lookforward_toybox.training.stages_128 import MINUTES_128

    require_place(output, (*PICTURES, ".pdf", ".svg"))
    logs = {stage: folder / stage / "metrics.jsonl" for stage in {**MINUTES, **MINUTES_128}}
    rows = {stage: read_json_lines(path, dict[str, float]) for stage, path in logs.items() if path.is_file()}
    if not rows:
        raise LookforwardError(
            f"{folder} has no metrics.jsonl of any stage: train one first.", code="toybox-state-missing"
        )
    shown = {"vae": ("l1",), "decoder": ("l1",), "clip": ("loss",), "dino": ("distillation", "contrast")}
    panels = {
        f"{stage}: {', '.join(names)}": {
            name: ([row["minutes"] for row in found], [row[name] for row in found]) for name in names
        }
        for stage, found in rows.items()
        for names in [shown.get(stage, ("loss",))]
    }
    with writing(output):
        plot(panels, "minutes").savefig(output, dpi=110)
    console.print(f"{len(panels)} stages on {output}")
