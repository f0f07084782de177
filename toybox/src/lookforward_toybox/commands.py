"""Commands for the bundled world and its models."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lookforward.bundle import TOYBOX
from lookforward.config.reading import check_number
from lookforward.errors import LookforwardError
from lookforward.files import writing
from lookforward.provenance.origin import Origin
from lookforward.provenance.save import save_image
from lookforward_toybox import Weights
from lookforward_toybox.models import MODELS, WEIGHTS, Side, side_of

console = Console(highlight=False, soft_wrap=True)
SEEDS = "[0, 2^63)"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def photos(subject: str, output: Path | None = None, count: int = 5, edition: Side | None = None) -> None:
    """Write photos of a held-out subject, to train on.

    Args:
        subject: Name, such as teapot-0. An unknown name lists all subjects.
        output: Folder. Default: photos/SUBJECT.
        count: Number of photos.
        edition: Width and height of the photos in pixels. Default: those of the images of model toybox.
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
    size = side_of(edition)
    write_photos(subject, folder, count, size)
    model = next(name for name, one in MODELS.items() if one.size == size)
    console.print(f"{count} photos of {subject} in {folder}. Train: lookforward train {folder} --class-noun {quoted}"
                  f"{'' if model == TOYBOX else f' --model {model}'}")  # fmt: skip


def check(
    images: int = 300,
    seed: int = 0,
    real_photos: Path | None = None,
    weights: Path | None = None,
    edition: Side | None = None,
) -> None:
    """Measure the bundled models, or your own, and print each result with its goal.

    Args:
        images: Number of images to generate; accessories and property changes use a quarter of it each.
        seed: Random seed of the prompts and the noise.
        real_photos: Folder with a subfolder of real photos per subject; also measures how well they are restored.
        weights: Folder of other models to measure, an export of `lookforward toybox train`.
        edition: Image size of the models in pixels. Default: that of model toybox. For 128, a partly trained export
            works too.
    """
    from lookforward_toybox.measure import measure
    from lookforward_toybox.measure_128 import measure_128

    check_number("images", images, "[4, 100000]")
    check_number("seed", seed, SEEDS)
    size = side_of(edition)
    chosen = _weights(weights, size)
    table = Table("figure", "goal", "reached", "± (95%)")
    with Live(table, console=console, auto_refresh=False) as live:  # what was measured is shown if the rest never is
        figures = (
            measure(images, seed, real_photos, chosen) if size == 64 else measure_128(chosen, images, seed, real_photos)
        )
        for figure in figures:
            goal = "" if figure.goal is None else f"{figure.goal:g}{figure.unit}"
            margin = "" if figure.margin is None else f"{figure.margin:.2g}"
            table.add_row(figure.name, goal, f"{figure.reached:.3g}{figure.unit}", margin)
            live.refresh()


def sheet(output: Path = Path("toybox.png"), edition: Side | None = None) -> None:
    """Write a contact sheet of the held-out subjects, one row of photos each.

    Args:
        output: Image file to write.
        edition: Width and height of the photos in pixels. Default: those of the images of model toybox.
    """
    from lookforward.report import contact_sheet
    from lookforward_toybox.subjects import reference_photos
    from lookforward_toybox.world.subject import held_out

    require_place(output)
    names, size = list(held_out()), side_of(edition)
    pictures: list[np.ndarray] = [photo for name in names for photo in reference_photos(name, size=size)]
    labels = [name if i == 0 else " " for name in names for i in range(5)]
    with writing(output):
        drawn = contact_sheet(pictures, labels, columns=10, cell=96 * size // 64)
        save_image(drawn, output, Origin("photos of Toybox's subjects", "drawn"))
    console.print(f"{len(names)} subjects on {output}")


def samples(
    output: Path = Path("samples.png"), seed: int = 0, weights: Path | None = None, edition: Side | None = None
) -> None:
    """Generate a sheet of images of every class and prompt kind, with the bundled model or your own.

    Args:
        output: Image file to write.
        seed: Seed of the first image.
        weights: Folder of other models to use, an export of `lookforward toybox train`.
        edition: Image size of the models in pixels. Default: that of model toybox.
    """
    from lookforward.models.load_pipeline import build_pipeline
    from lookforward_toybox.check import require_weights
    from lookforward_toybox.measure_128 import load_pipeline
    from lookforward_toybox.samples import sample_sheet
    from lookforward_toybox.samples_128 import sample_sheet_128

    check_number("seed", seed, SEEDS)
    size = side_of(edition)
    chosen = _weights(weights, size)
    require_weights(chosen.pipeline)
    require_place(output)
    if size == 64:
        drawn = sample_sheet(build_pipeline(str(chosen.pipeline)), seed)
    else:
        drawn = sample_sheet_128(load_pipeline(chosen.pipeline), seed)
    with writing(output):
        save_image(drawn.image, output, Origin("samples", model=f"toybox, {size} pixels", seeds=[seed]))
    console.print(f"{drawn.count} images on {output}")


def require_place(output: Path, kinds: tuple[str, ...] = PICTURES) -> None:
    """Check the suffix of an image file before the work starts, and make its folder."""
    if output.suffix.lower() not in kinds:
        raise LookforwardError(f"--output {output}: give a name that ends in {', '.join(kinds)}.", code="output-suffix")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)


def _weights(given: Path | None, size: int) -> Weights:
    """The models to measure: the given export, or those that are bundled for an edition."""
    chosen = Weights(given) if given else WEIGHTS[size]
    if given is None and not chosen.pipeline.is_dir():
        raise LookforwardError(
            f"--edition {size} needs --weights, an export of `lookforward toybox train`: no such model is bundled yet.",
            code="toybox-weights-missing",
        )
    return chosen
