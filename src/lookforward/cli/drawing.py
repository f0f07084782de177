"""Generate images into PNG files with metadata; never overwrite an image that has other metadata."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward import stopping
from lookforward.cli.console import console, print_notes
from lookforward.errors import LookforwardError
from lookforward.files import writing

if TYPE_CHECKING:
    import numpy as np

    from lookforward.models.safety import SafetyChecker

_AT_ONCE = 8


def draw_into(
    folder: Path,
    pipeline: Any,
    pairs: list[tuple[str, int]],
    settings: dict[str, Any],
    record: dict[str, Any],
    *,
    watermark: bool = True,
    checker: "SafetyChecker | None" = None,
) -> None:
    """Draw each pair of prompt and seed into a file of its own in `folder`, and all of them onto a sheet.

    settings: of the sampler. record: of the model, for the files. watermark: whether images carry the invisible
    one, if they are large enough and its package is there. checker: blackens images that it flags.

    Raises:
        LookforwardError: the disk is full or cannot be written, or a setting is out of range.
    """
    from lookforward import __version__
    from lookforward.assembly.marking import marked, needs_watermark, watermark_notes
    from lookforward.exports.png import PngMetadata, write_png, write_sheet
    from lookforward.models.families import family_of
    from lookforward.models.sampling import draw_images
    from lookforward.provenance.watermark import is_available
    from lookforward.report import contact_sheet

    size = settings["resolution"] or family_of(pipeline).native_size(pipeline)
    print_notes(watermark_notes(size, watermark))
    sampling: dict[str, Any] = {name: settings[name] for name in ("steps", "guidance", "scheduler")}
    sampling["safety_checker"] = checker is not None
    sampling["watermark"] = watermark and is_available() and needs_watermark(size)
    drawings = [
        PngMetadata(
            text, seed, size=size, negative=settings["negative"] or "", version=__version__, **sampling, **record
        )
        for text, seed in pairs
    ]
    names = _file_names(drawings, folder)
    images: list[np.ndarray] = []
    flagged = 0
    with writing(folder), _kept(folder, images, len(pairs)), stopping.finishing():
        for start in range(0, len(pairs), _AT_ONCE):  # what was drawn is kept if the next is interrupted
            some = drawings[start : start + _AT_ONCE]
            texts, numbers = [d.prompt for d in some], [d.seed for d in some]
            drawn = list(draw_images(pipeline, texts, numbers, **settings))
            if checker is not None:
                drawn, more = checker(drawn)
                flagged += more
            drawn, _ = marked(drawn, watermark)
            for drawing, pixels in zip(some, drawn, strict=True):
                folder.mkdir(parents=True, exist_ok=True)
                write_png(folder / f"{names[drawing.prompt]}-{drawing.seed}.png", pixels, drawing)
                images.append(pixels)
        several = len(names) > 1
        labels = [f"{text}, seed {number}" if several else f"seed {number}" for text, number in pairs]
        columns = min(8, len(pairs) // len(names)) if several else 4
        name = "sheet" if several else f"{names[pairs[0][0]]}-sheet"
        sheet = write_sheet(folder / f"{name}.png", contact_sheet(images, labels, columns), drawings)
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    console.print(f"{count} and {sheet.name} in {folder}")
    if flagged:
        console.print(f"Note: the safety checker flagged {flagged} of {len(images)} images, which are black.")


@contextmanager
def _kept(folder: Path, images: "Sequence[np.ndarray]", count: int) -> Iterator[None]:
    """Say which images there are if a signal asks for a stop."""
    try:
        yield
    except stopping.Stopped as stopped:
        message = f"stopped after {len(images)} of {count} images, in {folder}. Run the same command again for all."
        raise stopping.Stopped(stopped.number, message) from None


def _file_names(drawings: Sequence[Any], folder: Path) -> dict[str, str]:
    """A name for each prompt, that no other has, not even where a disk takes A for a; nor an image that lies in the
    folder and was drawn otherwise."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(drawing.prompt for drawing in drawings):
        files = [(f"-{drawing.seed}.png", drawing) for drawing in drawings if drawing.prompt == text]
        plain = "-".join("".join(c if c.isalnum() else " " for c in text).split())[:60] or "image"
        name, i = plain, 1
        while name.casefold() in taken or any(_shows_another(folder / f"{name}{file}", one) for file, one in files):
            name, i = f"{plain}-{i + 1}", i + 1
        names[text] = name
        taken.add(name.casefold())
    return names


def _shows_another(path: Path, drawing: Any) -> bool:
    """Whether there is an image already, that was drawn otherwise or by another program."""
    from lookforward.exports.png import read_metadata

    try:
        blank = {"version": "", "run": ""}  # which earlier versions did not record
        return path.exists() and replace(read_metadata(path), **blank) != replace(drawing, **blank)
    except LookforwardError:
        return True
