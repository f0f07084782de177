"""Generate images with a finished run, an export or any model."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lookforward.cli.console import console, print_notes
from lookforward.cli.drawing import draw_into
from lookforward.errors import LookforwardError

# `--adapter a --adapter b`, each with one word: a prompt may follow
Adapters = Annotated[tuple[str, ...], tyro.conf.arg(metavar="EXPORT[:STRENGTH]"), tyro.conf.UseAppendAction]


def generate(
    run: tyro.conf.Positional[str] = "",
    prompt: tyro.conf.Positional[str | None] = None,
    prompts: Path | None = None,
    count: int | None = None,
    seed: int | None = None,
    seeds: tuple[int, ...] = (),
    negative: str | None = None,
    scheduler: Literal["ddim", "ddpm", "dpm++", "euler", "unipc"] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    resolution: int | None = None,
    adapter: Adapters = (),
    photos: Path | None = None,
    encoder: str = "",
    class_noun: str = "",
    revision: str = "",
    like: Path | None = None,
    watermark: bool = True,
    safety_checker: bool = False,
    output: Path | None = None,
) -> None:
    """Generate images and a contact sheet. Each PNG file says that it is generated, with prompt, seed and settings.

    Args:
        run: Run folder, export, pipeline folder or hub ID. With --photos it may be left out.
        prompt: Prompt with the identifier and class noun, such as "a photo of sks dog on the beach"; {} stands for
            both.
        prompts: Text file to use instead of PROMPT, one prompt per line, with {} for the subject.
        count: Number of images for each prompt. Default: 4.
        seed: Seed of the first image; each further image adds 1. Default: 0.
        seeds: List of seeds, instead of --count and --seed.
        negative: Negative prompt. Needs --guidance above 1.
        scheduler: Sampler. Default: ddim, or euler for flow models.
        steps: Number of sampler steps. Default: the setting of the run.
        guidance: Scale of classifier-free guidance; 1 turns it off. Default: the setting of the run.
        resolution: Width and height of the images in pixels. Default: the setting of the run.
        adapter: Additional LoRA or learned word, with a strength such as 0.8. Can be repeated.
        photos: Folder of photos of a subject to draw without training, by a photo encoder. In the prompt, {} stands
            for the subject.
        encoder: Folder of the photo encoder, from `lookforward pretrain-encoder`; or public IP-Adapter weights, such as
            h94/IP-Adapter:models/ip-adapter_sd15.safetensors, with a MODEL that they are for.
        class_noun: What the photos show, such as "dog". {} stands for the word of the photos and for it.
        revision: Branch, tag or commit of a hub ID.
        like: PNG file from this command. Reuses its prompt, seed and settings unless you give others.
        watermark: Put an invisible watermark into images from 256 pixels on. See docs/provenance.md.
        safety_checker: Replace images that the base model's own safety checker flags by black ones. See
            docs/provenance.md.
        output: Folder for the images. Default: RUN/images, or images if RUN is not a run folder.
    """
    from lookforward.assembly.prompts import prompt_notes
    from lookforward.cli.photos import base_of, read_photos
    from lookforward.exports.load import model_hash
    from lookforward.exports.png import read_metadata
    from lookforward.exports.source import add_adapters, device_of, drawn_with, find_adapter, find_source
    from lookforward.models.families import family_of
    from lookforward.models.safety import load_safety_checker
    from lookforward.models.sampling import check_numbers, check_size

    check_numbers(seeds=seeds or (seed or 0,), guidance=guidance)
    past = read_metadata(like) if like else None
    run, prompt = base_of(run, prompt, prompts, photos, encoder)
    _require_words(prompt, prompts, past.prompt if past else None)
    source = find_source(run, revision)
    shown = read_photos(photos, encoder, class_noun, source) if photos else None
    own = source.manifest | (shown.manifest if shown else {})
    asked, repeats = _once(_prompts(prompt, prompts, past.prompt if past else None, own), prompts)
    chosen = _seeds(seeds, count, seed, past.seed if past else None)
    others = [find_adapter(word) for word in adapter]
    pipeline = source.load(device_of(source))
    digest = model_hash(pipeline)
    notes = add_adapters(pipeline, source, others)
    if shown:
        shown.show(pipeline)
        notes = (*shown.notes, *notes)
    settings = {
        "negative": _first(negative, past and past.negative) or None,
        "scheduler": _first(scheduler, past and past.scheduler, next(iter(family_of(pipeline).schedulers))),
        "steps": _first(steps, past and past.steps, own["sample_steps"]),
        "guidance": _first(guidance, past and past.guidance, own["guidance"]),
        "resolution": _first(resolution, past and past.size, own["resolution"]),
    }
    check_size(pipeline, settings["resolution"])
    checker = (
        load_safety_checker(own["model"], pipeline.device, own.get("model_commit", "")) if safety_checker else None
    )
    record = drawn_with(source, digest, others)
    if shown:
        record["adapters"] = [*record["adapters"], shown.record]
    print_notes((*repeats, *notes, *prompt_notes(pipeline, own, asked, settings["negative"] or "")))
    if past and (past.model_hash, past.adapters) != (digest, record["adapters"]):
        console.print(
            f"Note: {like} was generated with another model or other adapters, so the image will look different."
        )
    folder = output or (source.run.folder if source.run else Path()) / "images"
    pairs = [(text, number) for text in asked for number in chosen]
    draw_into(folder, pipeline, pairs, settings, record, watermark=watermark, checker=checker)


def _require_words(prompt: str | None, file: Path | None, past: str | None) -> None:
    if prompt is not None and file is not None:
        raise LookforwardError("Give a PROMPT, or --prompts FILE, not both.", code="prompt-twice")
    if prompt is None and file is None and past is None:
        raise LookforwardError("Give a PROMPT, or --prompts FILE with one prompt a line.", code="prompt-missing")


def _prompts(prompt: str | None, file: Path | None, past: str | None, own: dict[str, Any]) -> list[str]:
    """What to draw, the subject filled in. past: of an earlier image, which is taken as it was drawn."""
    from lookforward.assembly.prompts import fill_prompt
    from lookforward.data.prompts import read_prompt_file

    if file is not None:
        return [fill_prompt(template, own) for template in read_prompt_file(file)]
    return [fill_prompt(prompt, own) if prompt is not None else past or ""]


def _once(asked: list[str], file: Path | None) -> tuple[list[str], tuple[str, ...]]:
    """Each prompt once, and a note where one of the file came again: one file name cannot hold two images."""
    once = list(dict.fromkeys(asked))
    if len(once) == len(asked):
        return once, ()
    note = f"{len(asked)} prompts of {file} contain {len(once)} different ones; each is generated once per seed"
    return once, (f"{note}: the same seed gives the same image.",)


def _seeds(seeds: tuple[int, ...], count: int | None, seed: int | None, past: int | None) -> list[int]:
    from lookforward.models.sampling import check_count

    if (seeds or past is not None) and (count, seed) != (None, None):
        raise LookforwardError(
            "--seed and --count cannot be combined with --seeds or --like: give all seeds after --seeds.",
            code="seeds-twice",
        )
    count, seed = 4 if count is None else count, seed or 0
    check_count(count)
    if len(set(seeds)) != len(seeds):
        raise LookforwardError("--seeds names a seed twice: the same seed gives the same image.", code="seed-repeated")
    return list(seeds) or ([past] if past is not None else list(range(seed, seed + count)))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
