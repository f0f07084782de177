"""What is made of a finished run: images, files that other programs read, a model with the adapter baked in."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from lookforward.errors import LookforwardError, write_error

_AT_ONCE = 8

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)  # paths as they are, to be copied

# `--adapter a --adapter b`, each with one word: a prompt may follow
Adapters = Annotated[tuple[str, ...], tyro.conf.arg(metavar="EXPORT[:STRENGTH]"), tyro.conf.UseAppendAction]


def generate(
    run: tyro.conf.Positional[str],
    prompt: tyro.conf.Positional[str | None] = None,
    prompts: Path | None = None,
    count: int = 4,
    seed: int = 0,
    seeds: tuple[int, ...] = (),
    negative: str | None = None,
    scheduler: Literal["ddim", "ddpm", "dpm++", "euler", "unipc"] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    resolution: int | None = None,
    adapter: Adapters = (),
    like: Path | None = None,
    output: Path | None = None,
) -> None:
    """Draw images, as PNG files that say how they were drawn, and a contact sheet.

    Args:
        run: Run folder, export, pipeline folder or hub id.
        prompt: What to draw, with the identifier and the class noun: "a photo of sks dog on the beach", or {} for
            both.
        prompts: Text file instead of PROMPT, one prompt a line, {} for the subject.
        count: How many images of each prompt.
        seed: Seed of the first image; the next ones follow.
        seeds: The seeds themselves, instead of --count and --seed.
        negative: What to lead away from; needs a guidance above 1.
        scheduler: How to sample; ddim where not given.
        steps: Steps of the sampler; the run's own where not given.
        guidance: Classifier-free guidance, 1 is none; the run's own where not given.
        resolution: Side of the images in pixels; the run's own where not given.
        adapter: A further LoRA or learned word on top, at a strength such as 0.8; may be given several times.
        like: A PNG file of this command, whose prompt, seed and settings hold where not given otherwise.
        output: Folder for the images; RUN/images, or images where RUN is no run folder, where not given.
    """
    from lookforward.build import add_adapters, device_of, find_adapter, find_source, model_hash
    from lookforward.card import base_name
    from lookforward.generate import check_size
    from lookforward.picture import read_settings

    past = read_settings(like) if like else None
    _require_words(prompt, prompts, past.prompt if past else None)
    source = find_source(run)
    own = source.manifest
    asked, repeats = _once(_prompts(prompt, prompts, past.prompt if past else None, own), prompts)
    chosen = _seeds(seeds, count, seed, past.seed if past else None)
    others = [find_adapter(word) for word in adapter]
    pipeline = source.load(device_of(source))
    digest = model_hash(pipeline)
    notes = add_adapters(pipeline, source, others)
    if own["adapter"] != "full":
        others = [(source, 1.0), *others]
    settings = {
        "negative": _first(negative, past and past.negative) or None,
        "scheduler": _first(scheduler, past and past.scheduler, "ddim"),
        "steps": _first(steps, past and past.steps, own["sample_steps"]),
        "guidance": _first(guidance, past and past.guidance, own["guidance"]),
        "resolution": _first(resolution, past and past.size, own["resolution"]),
    }
    check_size(pipeline, settings["resolution"])
    record = {
        "model": source.name if own["adapter"] == "full" else base_name(own["model"]),
        "model_hash": digest,
        "adapters": [other.describe(strength) for other, strength in others],
    }
    _tell((*repeats, *notes), asked, own)
    if past and (past.model_hash, past.adapters) != (digest, record["adapters"]):
        console.print(f"Note: {like} was drawn with another model or other adapters, and will look otherwise.")
    folder = output or (source.run.folder if source.run else Path()) / "images"
    _draw(pipeline, [(text, number) for text in asked for number in chosen], settings, record, folder)


def export(
    run: tyro.conf.Positional[str],
    format: Literal["diffusers", "kohya", "a1111", "merged"],
    output: Path | None = None,
    strength: float | None = None,
) -> None:
    """Write the export of a finished run again, in a layout that another program reads.

    Args:
        run: Run folder or export.
        format: diffusers: as the run wrote it. kohya: a LoRA as one file, for ComfyUI and A1111. a1111: a learned
            word as one file, for both. merged: a pipeline folder with the adapter baked in.
        output: New folder; RUN/export-FORMAT where not given.
        strength: Of merged, 0 the base model, 1 the trained one; 1 where not given.
    """
    from lookforward.build import convert, find_source

    source = find_source(run)
    folder = output or Path(run) / f"export-{format}"
    if output is None and source.run is None:
        raise LookforwardError(f"{run} is no run folder: say where to write, with --output FOLDER.")
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
    from lookforward.build import find_adapter
    from lookforward.build import merge as bake

    if not exports:
        raise LookforwardError("Give the run folders or exports to merge.")
    for note in bake([find_adapter(given, strength) for given in exports], output):
        console.print(f"Note: {note}")
    console.print(f"Merged into {output}. Load it with StableDiffusionPipeline.from_pretrained({str(output)!r}).")


def _require_words(prompt: str | None, file: Path | None, past: str | None) -> None:
    if prompt is not None and file is not None:
        raise LookforwardError("Give a PROMPT, or --prompts FILE, not both.")
    if prompt is None and file is None and past is None:
        raise LookforwardError("Give a PROMPT, or --prompts FILE with one prompt a line.")


def _prompts(prompt: str | None, file: Path | None, past: str | None, own: dict[str, Any]) -> list[str]:
    """What to draw, the subject filled in."""
    from lookforward.prompts import fill, read_prompt_file

    noun = own["class_noun"] if own["noun_in_prompt"] else ""
    if file is not None:
        templates = read_prompt_file(file)
        plain = not own["identifier"] and any("{" in template for template in templates)
        asked = [fill(template, own["identifier"], noun) for template in templates]
    else:
        template = prompt if prompt is not None else past or ""
        plain = prompt is not None and "{}" in prompt and not own["identifier"]
        asked = [template.replace("{}", f"{own['identifier']} {noun}".strip()) if prompt is not None else template]
    if plain:
        raise LookforwardError("{} stands for a subject, and a plain model knows none: write the prompt in full.")
    return asked


def _once(asked: list[str], file: Path | None) -> tuple[list[str], tuple[str, ...]]:
    """Each prompt once, and a note where one of the file came again: one file name cannot hold two images."""
    once = list(dict.fromkeys(asked))
    if len(once) == len(asked):
        return once, ()
    told = f"{len(asked)} prompts of {file} are {len(once)} different ones, each drawn once for each seed"
    return once, (f"{told}: the same seed gives the same image.",)


def _seeds(seeds: tuple[int, ...], count: int, seed: int, past: int | None) -> list[int]:
    if (seeds or past is not None) and (count, seed) != (4, 0):
        raise LookforwardError("--seed and --count do not go with --seeds or --like: give all seeds after --seeds.")
    if count < 1:
        raise LookforwardError(f"count = {count}: ask for at least one image.")
    if len(set(seeds)) != len(seeds):
        raise LookforwardError("--seeds names a seed twice: the same seed gives the same image.")
    return list(seeds) or ([past] if past is not None else list(range(seed, seed + count)))


def _tell(notes: tuple[str, ...], asked: list[str], own: dict[str, Any]) -> None:
    from lookforward.concepts import other_subjects

    named = [own["identifier"], *(identifier for identifier, _ in other_subjects(own.get("others", "")))]
    for note in notes:
        console.print(f"Note: {note}")
    without = sum(not any(word in text for word in named) for text in asked)
    if without:
        which = "the prompt does" if len(asked) == 1 else f"{without} of {len(asked)} prompts do"
        console.print(f"Note: {which} not hold {own['identifier']!r}, so your subject was not asked for.")


def _draw(
    pipeline: Any, pairs: list[tuple[str, int]], settings: dict[str, Any], record: dict[str, Any], folder: Path
) -> None:
    """Draw each pair of prompt and seed into a file of its own, and all of them onto a sheet."""
    from lookforward import __version__
    from lookforward.generate import draw_images
    from lookforward.picture import Drawing, save_picture
    from lookforward.report import contact_sheet

    names = _file_names(pairs, folder)
    images: list[np.ndarray] = []
    sampling = {name: settings[name] for name in ("steps", "guidance", "scheduler")}
    try:
        for start in range(0, len(pairs), _AT_ONCE):  # what was drawn is kept if the next is interrupted
            texts, numbers = zip(*pairs[start : start + _AT_ONCE], strict=True)
            for text, number, pixels in zip(
                texts, numbers, draw_images(pipeline, texts, numbers, **settings), strict=True
            ):
                drawing = Drawing(
                    text, number, size=len(pixels), negative=settings["negative"] or "", version=__version__,
                    **sampling, **record,
                )  # fmt: skip
                folder.mkdir(parents=True, exist_ok=True)
                save_picture(folder / f"{names[text]}-{number}.png", pixels, drawing)
                images.append(pixels)
        several = len(names) > 1
        labels = [f"{text}, seed {number}" if several else f"seed {number}" for text, number in pairs]
        columns = min(8, len(pairs) // len(names)) if several else 4
        sheet = "sheet.png" if several else f"{names[pairs[0][0]]}-sheet.png"
        contact_sheet(images, labels, columns).save(folder / sheet)
    except OSError as error:
        raise write_error(folder, error, "Make room, or give another --output.") from error
    console.print(f"{len(images)} images and {sheet} in {folder}")


def _file_names(pairs: list[tuple[str, int]], folder: Path) -> dict[str, str]:
    """A name for each prompt, that no other has, not even where a disk takes A for a; nor an image of another prompt
    that lies in the folder."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(text for text, _ in pairs):
        files = [f"-{number}.png" for other, number in pairs if other == text]
        plain = "-".join("".join(c if c.isalnum() else " " for c in text).split())[:60] or "image"
        name, i = plain, 1
        while name.casefold() in taken or any(_shows_another(folder / f"{name}{file}", text) for file in files):
            name, i = f"{plain}-{i + 1}", i + 1
        names[text] = name
        taken.add(name.casefold())
    return names


def _shows_another(path: Path, prompt: str) -> bool:
    """Whether there is an image already, of another prompt or of another program."""
    from lookforward.picture import read_settings

    try:
        return path.exists() and read_settings(path).prompt != prompt
    except LookforwardError:
        return True


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
