"""Commands about the bundled world and its models."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lookforward.errors import LookforwardError
from lookforward.files import writing
from lookforward_toybox.progress import track

console = Console(highlight=False, soft_wrap=True)
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def photos(subject: str, output: Path | None = None, count: int = 5, edition: Literal[64, 128] = 64) -> None:
    """Write the photos of one of the held-out subjects, to train on.

    Args:
        subject: Its name, such as teapot-0; any wrong name lists them all.
        output: Folder; photos/SUBJECT if not given.
        count: How many photos.
        edition: Side of the photos.
    """
    from lookforward_toybox.subjects import find_subject, write_photos
    from lookforward_toybox.world.scenes import SCENES

    if not 1 <= count <= len(SCENES):
        raise LookforwardError(
            f"--count {count} must lie in [1, {len(SCENES)}]: each photo is in a scene of its own.", code="option-range"
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
    """Draw the pictures that the models are trained on.

    Args:
        count: How many.
        folder: Training folder; the pictures go into its folder data.
        seed: The same seed draws the same pictures.
        workers: Processes.
        edition: Which edition of the world, by the side of its pictures.
    """
    from lookforward_toybox.draw import draw_world
    from lookforward_toybox.world.edition import EDITIONS

    with track("drawing", count, console) as show:
        draw_world(folder / "data", count, seed=seed, workers=workers, edition=EDITIONS[edition], show=show)
    console.print(f"{count} pictures in {folder / 'data'}")


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
    """Train one stage, or all in order; the same command goes on where it was stopped. Exports to FOLDER/export.

    Args:
        stage: One of them, or all in this order; unet (64 pixels) needs vae and clip, transformer (128) dino too.
        folder: Training folder, with data from `lookforward toybox draw`.
        minutes: Training time of the stage; that of the shipped models where not given.
        seed: Seed of the stage.
        device: cpu, cuda or mps; auto takes what there is.
        real_photos: Folder of real photos to mix into the autoencoder's batches.
        init: Earlier exports (pipeline, clip, dino) to start from; random weights by default; 64 pixels only.
        edition: Side of the pictures that the models are for: 64 trains a Stable Diffusion 1, 128 a flow
            transformer.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from lookforward.models.load_pipeline import find_device
    from lookforward.models.weight_files import no_progress_bars
    from lookforward_toybox.training.stages import MINUTES
    from lookforward_toybox.training.stages import train_stage as run_stage
    from lookforward_toybox.training.stages_128 import MINUTES_128, train_stage_128

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
    """Measure the bundled models, or ones of your own training, and print each figure beside its goal.

    Args:
        images: How many images to draw for the judged figures; a quarter of it each for accessories and for properties.
        seed: Seed of their prompts and noise.
        real_photos: Folder with a folder of photos for each of some subjects, to restore as well.
        weights: Folder of other models to measure: the export of `lookforward toybox train`.
        edition: Side of the pictures that the models are for; of 128 pixels, a half-trained export will do.
    """
    from lookforward_toybox import SHIPPED, Weights
    from lookforward_toybox.measure import measure
    from lookforward_toybox.measure_128 import measure_128

    chosen = Weights(weights) if weights else SHIPPED
    if edition == 128 and weights is None:
        raise LookforwardError(
            "--edition 128 needs --weights, the export of a training: none is bundled yet.",
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
    """Draw the held-out subjects, a row of photos each, on one sheet.

    Args:
        output: The picture to write.
        edition: Side of the photos.
    """
    from lookforward.report import contact_sheet
    from lookforward_toybox.subjects import reference_photos
    from lookforward_toybox.world.subject import held_out

    _require_place(output)
    names = list(held_out())
    pictures: list[np.ndarray] = [photo for name in names for photo in reference_photos(name, size=edition)]
    labels = [name if i == 0 else " " for name in names for i in range(5)]
    with writing(output):
        contact_sheet(pictures, labels, columns=10, cell=96 * edition // 64).save(output)
    console.print(f"{len(names)} subjects on {output}")


def samples(
    output: Path = Path("samples.png"), seed: int = 0, weights: Path | None = None, edition: Literal[64, 128] = 64
) -> None:
    """Draw what the bundled model, or one of your own training, makes of every class and kind of prompt.

    Args:
        output: The picture to write.
        seed: Seed of the first image.
        weights: Folder of other models to draw with: the export of `lookforward toybox train`.
        edition: Side of the pictures that the models are for.
    """
    from lookforward.models.load_pipeline import build_pipeline
    from lookforward_toybox import SHIPPED, Weights
    from lookforward_toybox.check import require_weights
    from lookforward_toybox.measure_128 import load_pipeline
    from lookforward_toybox.samples import sample_sheet
    from lookforward_toybox.samples_128 import sample_sheet_128

    chosen = Weights(weights) if weights else SHIPPED
    require_weights(chosen.pipeline)
    _require_place(output)
    if edition == 64:
        drawn = sample_sheet(build_pipeline(str(chosen.pipeline)), seed)
    else:
        drawn = sample_sheet_128(load_pipeline(chosen.pipeline), seed)
    with writing(output):
        drawn.image.save(output)
    console.print(f"{drawn.count} images on {output}")


def curves(folder: Path = Path("build/toybox"), output: Path = Path("curves.png")) -> None:
    """Plot how the loss of every stage fell while it was trained.

    Args:
        folder: Training folder.
        output: The picture to write.
    """
    from lookforward.files import read_json_lines
    from lookforward.report.curves import curves as plot
    from lookforward_toybox.training.stages import MINUTES

    _require_place(output, (*PICTURES, ".pdf", ".svg"))
    logs = {stage: folder / stage / "metrics.jsonl" for stage in MINUTES}
    rows = {stage: read_json_lines(path, dict[str, float]) for stage, path in logs.items() if path.is_file()}
    if not rows:
        raise LookforwardError(f"{folder} has no stage's metrics.jsonl; train one first.", code="toybox-state-missing")
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
    """Find what is wrong with the name of a picture before it is drawn, and make its folder."""
    if output.suffix.lower() not in kinds:
        raise LookforwardError(f"--output {output}: give a name that ends in {', '.join(kinds)}.", code="output-suffix")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
