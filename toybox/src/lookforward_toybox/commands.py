"""Commands for the bundled world and its models."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lookforward.config.reading import check_number
from lookforward.errors import LookforwardError
from lookforward.files import writing
from lookforward.provenance.origin import Origin
from lookforward.provenance.save import save_image
from lookforward_toybox.progress import track

console = Console(highlight=False, soft_wrap=True)
_COUNT, _SEED = "[1, 100000000]", "[0, 2^63)"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def photos(subject: str, output: Path | None = None, count: int = 5, edition: Literal[64, 128] = 64) -> None:
    """Write photos of a held-out subject, to train on.

    Args:
        subject: Name, such as teapot-0. An unknown name lists all subjects.
        output: Folder. Default: photos/SUBJECT.
        count: Number of photos.
        edition: Width and height of the photos in pixels.
    """
    from lookforward_toybox.subjects import find_subject, write_photos
    from lookforward_toybox.world.scenes import SCENES

    if not 1 <= count <= len(SCENES):
        raise LookforwardError(
            f"--count {count} must be in [1, {len(SCENES)}]: each photo shows another scene.", code="option-range"
        )
    noun = find_subject(subject).class_noun
    quoted = f'"{noun}"' if " " in noun else noun
    folder = output or Path("photos") / subject
    write_photos(subject, folder, count, edition)
    console.print(f"{count} photos of {subject} in {folder}. Train: "
                  f"lookforward train {folder} --class-noun {quoted}")  # fmt: skip


def draw(
    count: int = 80_000,
    folder: Path = Path("build/toybox"),
    seed: int = 0,
    workers: int = 2,
    edition: Literal[64, 128] = 64,
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

    for name, number, within in (("count", count, _COUNT), ("workers", workers, "[1, 512]"), ("seed", seed, _SEED)):
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
    edition: Literal[64, 128] = 64,
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
    check_number("seed", seed, _SEED)
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


def check(
    images: int = 300,
    seed: int = 0,
    real_photos: Path | None = None,
    weights: Path | None = None,
    edition: Literal[64, 128] = 64,
) -> None:
    """Measure the bundled models, or your own, and print each result with its goal.

    Args:
        images: Number of images to generate; accessories and property changes use a quarter of it each.
        seed: Random seed of the prompts and the noise.
        real_photos: Folder with a subfolder of real photos per subject; also measures how well they are restored.
        weights: Folder of other models to measure, an export of `lookforward toybox train`.
        edition: Image size of the models in pixels. For 128, a partly trained export works too.
    """
    from lookforward_toybox import SHIPPED, Weights
    from lookforward_toybox.measure import measure
    from lookforward_toybox.measure_128 import measure_128

    check_number("images", images, "[4, 100000]")
    check_number("seed", seed, _SEED)
    chosen = Weights(weights) if weights else SHIPPED
    if edition == 128 and weights is None:
        raise LookforwardError(
            "--edition 128 needs --weights, an export of `lookforward toybox train`: no such model is bundled yet.",
            code="toybox-weights-missing",
        )

    table = Table("figure", "goal", "reached", "± (95%)")
    with Live(table, console=console, auto_refresh=False) as live:  # what was measured is shown if the rest never is
        figures = (
            measure(images, seed, real_photos, chosen)
            if edition == 64
            else measure_128(chosen, images, seed, real_photos)
        )
        for figure in figures:
            goal = "" if figure.goal is None else f"{figure.goal:g}{figure.unit}"
            margin = "" if figure.margin is None else f"{figure.margin:.2g}"
            table.add_row(figure.name, goal, f"{figure.reached:.3g}{figure.unit}", margin)
            live.refresh()


def sheet(output: Path = Path("toybox.png"), edition: Literal[64, 128] = 64) -> None:
    """Write a contact sheet of the held-out subjects, one row of photos each.

    Args:
        output: Image file to write.
        edition: Width and height of the photos in pixels.
    """
    from lookforward.report import contact_sheet
    from lookforward_toybox.subjects import reference_photos
    from lookforward_toybox.world.subject import held_out

    _require_place(output)
    names = list(held_out())
    pictures: list[np.ndarray] = [photo for name in names for photo in reference_photos(name, size=edition)]
    labels = [name if i == 0 else " " for name in names for i in range(5)]
    with writing(output):
        drawn = contact_sheet(pictures, labels, columns=10, cell=96 * edition // 64)
        save_image(drawn, output, Origin("photos of Toybox's subjects", "drawn"))
    console.print(f"{len(names)} subjects on {output}")


def samples(
    output: Path = Path("samples.png"), seed: int = 0, weights: Path | None = None, edition: Literal[64, 128] = 64
) -> None:
    """Generate a sheet of images of every class and prompt kind, with the bundled model or your own.

    Args:
        output: Image file to write.
        seed: Seed of the first image.
        weights: Folder of other models to use, an export of `lookforward toybox train`.
        edition: Image size of the models in pixels.
    """
    from lookforward.models.load_pipeline import build_pipeline
    from lookforward_toybox import SHIPPED, Weights
    from lookforward_toybox.check import require_weights
    from lookforward_toybox.measure_128 import load_pipeline
    from lookforward_toybox.samples import sample_sheet
    from lookforward_toybox.samples_128 import sample_sheet_128

    check_number("seed", seed, _SEED)
    chosen = Weights(weights) if weights else SHIPPED
    require_weights(chosen.pipeline)
    _require_place(output)
    if edition == 64:
        drawn = sample_sheet(build_pipeline(str(chosen.pipeline)), seed)
    else:
        drawn = sample_sheet_128(load_pipeline(chosen.pipeline), seed)
    with writing(output):
        save_image(drawn.image, output, Origin("samples", model=f"toybox, {edition} pixels", seeds=[seed]))
    console.print(f"{drawn.count} images on {output}")


def curves(folder: Path = Path("build/toybox"), output: Path = Path("curves.png")) -> None:
    """Plot the training loss of every stage.

    Args:
        folder: Training folder.
        output: Image file to write.
    """
    from lookforward.files import read_json_lines
    from lookforward.report.curves import curves as plot
    from lookforward_toybox.training.stages import MINUTES

    _require_place(output, (*PICTURES, ".pdf", ".svg"))
    logs = {stage: folder / stage / "metrics.jsonl" for stage in MINUTES}
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


def _require_place(output: Path, kinds: tuple[str, ...] = PICTURES) -> None:
    """Check the suffix of an image file before the work starts, and make its folder."""
    if output.suffix.lower() not in kinds:
        raise LookforwardError(f"--output {output}: give a name that ends in {', '.join(kinds)}.", code="output-suffix")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
