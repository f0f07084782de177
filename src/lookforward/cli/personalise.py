"""The main job: train on photos, and score the result."""

import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from lookforward.errors import LookforwardError

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)  # paths as they are, to be copied

# Both `--set a=1 b=2` and `--set a=1 --set b=2`
Settings = Annotated[tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="NAME=VALUE"), tyro.conf.UseAppendAction]


def train(
    photos: tyro.conf.Positional[Path],
    class_noun: str = "",
    model: str | None = None,
    recipe: str = "look-forward",
    reward: str | None = None,
    adapter: str | None = None,
    identifier: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    output: Path | None = None,
    resolution: int | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    set: Settings = (),
    allow_few: bool = False,
    dry_run: bool = False,
) -> None:
    """Teach a model your subject. The same command given again goes on where it was interrupted.

    Args:
        photos: Folder with 4 to 6 photos of one subject, or a TOML list of several subjects.
        class_noun: What the subject is, such as dog. Needed unless a list names it.
        model: A diffusers pipeline folder or a hub id such as CompVis/stable-diffusion-v1-4; the bundled toybox
            where not given.
        recipe: A bundled recipe, or a TOML file of settings, over which these options go. A wrong name lists all.
        reward: What is rewarded, such as "look-forward + 0.5*dino", or mymodule:function; the recipe's where not
            given.
        adapter: What is trained: full (all weights), lora, dora, custom-diffusion, textual-inversion, p-plus or neti;
            the recipe's where not given.
        identifier: The rare word that will name your subject; sks where not given.
        steps: Training steps; the recipe's where not given.
        seed: The run is the same for the same seed; 0 where not given.
        output: Run folder; runs/PHOTOS-RECIPE where not given, runs/PHOTOS-RECIPE-ADAPTER with an adapter.
        resolution: Side of the images in pixels; the recipe's where not given.
        precision: What the model computes in; fp32 where not given, bf16 is faster on recent hardware.
        set: Any other setting of the run, such as objective.discount=0.99 or critic.weight=2.0.
        allow_few: Train on fewer than three photos.
        dry_run: Check everything and show the resolved settings; train nothing.
    """
    from lookforward.api import Job, default_output, photos_name, read_subject
    from lookforward.assembly import check
    from lookforward.config.recipe import load_settings, require_followed
    from lookforward.config.settings import dotted, to_toml
    from lookforward.data.subjects import name_subjects

    given = dotted(
        model=model, reward=reward, adapter=adapter, identifier=identifier, steps=steps, seed=seed,
        resolution=resolution, precision=precision, class_noun=class_noun or None,
    )  # fmt: skip
    given |= {"data.allow_few": True} if allow_few else {}
    given |= parse_settings(set) | {"subject.photos": photos_name(photos)}
    settings = load_settings(recipe, name_subjects(photos, given))
    require_followed(settings, given)
    subject = read_subject(photos, settings)
    folder = output or default_output(settings)
    job = Job(folder, settings, subject)
    if job.run.finished:
        console.print(f"{folder} is finished already. Draw with it: {_example(folder, settings)}")
    elif dry_run:
        notes = check(settings, subject)
        console.print(to_toml(settings), end="")
        _print_notes(notes)
        console.print(f"Would train {settings.run.steps} steps on {_tell_photos(subject)} into {folder}.")
    else:
        _run_job(job, settings.run.steps)
        console.print(f"Done: {folder}. Draw with it: {_example(folder, settings)}")


def _run_job(job: Any, steps: int) -> None:
    from lookforward.cli.progress import TrainingProgress

    console.print(f"Training on {_tell_photos(job.subject)} into {job.run.folder} …")
    with TrainingProgress(steps, console) as progress:
        for i, result in enumerate(job):
            if i == 0:  # before it, the job had not looked at the model yet
                _print_notes(job.notes)
                if job.resumed_at:
                    console.print(f"Going on after step {job.resumed_at}.")
            progress.show(result)


def score(
    run: tyro.conf.Positional[Path],
    prompts: Path | None = None,
    images: int = 2,
    seed: int = 0,
    dino: str | None = None,
    clip: str | None = None,
    extra_scores: tuple[str, ...] = (),
    dinov2: str | None = None,
    identifier_in_clip_text: bool = False,
) -> None:
    """Score a finished run: DINO and CLIP-I against its photos, CLIP-T against the prompts, oracle on Toybox.

    Args:
        run: Run folder.
        prompts: Text file, one prompt a line, {} where identifier and class noun go; the benchmark's own
            where not given.
        images: How many for each prompt.
        seed: Seed of the first image.
        dino: Folder or hub id of another DINO.
        clip: Folder or hub id of another CLIP.
        extra_scores: Further scores: dinov2, diversity (needs lpips), dreamsim (needs dreamsim).
        dinov2: Folder or hub id of another DINOv2; asks for its score.
        identifier_in_clip_text: CLIP-T sees the identifier too.
    """
    from lookforward.api import load_personalized
    from lookforward.assembly import build_evaluators, build_scores
    from lookforward.benchmark.optimised import optimised_scores
    from lookforward.benchmark.plan import Scoring
    from lookforward.bundle import find_bundle
    from lookforward.data.prompts import benchmark_prompts, fill, read_prompt_file
    from lookforward.data.subjects import photos_of, read_subject
    from lookforward.files import write_json
    from lookforward.models.sampling import draw_images
    from lookforward.scores.evaluate import score_images

    if images < 1:
        raise LookforwardError(f"--images is {images}; ask for at least one of each prompt.")
    extra = asked_scores(extra_scores, dinov2, images)
    model = load_personalized(run)
    settings = model.run.settings
    subject = read_subject(photos_of(settings), settings)
    model.run.require_photos(subject.digests)
    if subject.others:
        console.print(f"Note: only the first of {len(subject.together)} subjects is scored, {subject.name}.")
    judges = build_evaluators(settings.model.name, extra=extra, dino=dino, clip=clip, dinov2=dinov2)
    templates = tuple(read_prompt_file(prompts)) if prompts else benchmark_prompts(settings.subject.class_noun)
    noun = settings.subject.class_noun if settings.subject.noun_in_prompt else ""  # as the prompts of training
    asked = [fill(t, settings.subject.identifier, noun) for t in templates for _ in range(images)]
    seen = settings.subject.identifier if identifier_in_clip_text else ""
    texts = [fill(t, seen, settings.subject.class_noun) for t in templates for _ in range(images)]
    drawn = draw_images(
        model.pipeline, asked, list(range(seed, seed + len(asked))),
        steps=settings.evaluation.sampler_steps, guidance=settings.evaluation.guidance,
        resolution=settings.data.resolution,
    )  # fmt: skip
    references = np.stack([photo.pixels for photo in subject.photos])
    bundle = find_bundle()
    drawing = bundle.known_drawing(Path(settings.subject.photos)) if bundle else None
    values = score_images(build_scores(judges, references, drawing), drawn, texts)
    means = {name: float(v.mean()) for name, v in values.items()}
    scoring = Scoring(identifier_in_clip_text, extra, dinov2, dino, clip)
    optimised = [name for name in optimised_scores(settings, scoring) if name in means]
    record = {
        "means": means, "optimised": optimised, "images": len(asked), "prompts": list(templates), "seed": seed,
        "identifier_in_clip_text": identifier_in_clip_text, "encoders": scoring.encoders(),
    }  # fmt: skip
    place = _place_of_scores(run, record)
    write_json(place, record)
    for name, mean in means.items():
        console.print(f"{name:9} {mean:.4f}{' †' if name in optimised else ''}")
    if optimised:
        console.print("† trained on this very score, so no evidence for the method.")
    console.print(f"means over {len(asked)} images of {len(templates)} prompts, in {place}")


def _place_of_scores(run: Path, record: dict[str, Any]) -> Path:
    """scores.json, or that name with a number where it holds scores that were taken otherwise."""
    import json

    number = 1
    while True:
        place = run / ("scores.json" if number == 1 else f"scores-{number}.json")
        try:
            before = json.loads(place.read_text(encoding="utf-8"))
            if {**before, "means": None} == json.loads(json.dumps({**record, "means": None})):
                return place
        except OSError:  # not there, or whoever writes it will tell
            return place
        except (ValueError, TypeError):
            pass  # cut off, or something else: left as it is
        number += 1


def asked_scores(extra: tuple[str, ...], dinov2: str | None, images: int) -> tuple[str, ...]:
    """The further scores that are asked for, each once; what they lack is told here."""
    from lookforward.assembly import check_extra_scores

    words = tuple(dict.fromkeys((*split_words(extra), "dinov2") if dinov2 else split_words(extra)))
    check_extra_scores(words, images)
    return words


def split_words(given: tuple[str, ...]) -> tuple[str, ...]:
    """Words that may come with spaces or commas between."""
    return tuple(word.strip() for words in given for word in words.split(",") if word.strip())


def parse_settings(groups: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """NAME=VALUE pairs, the value as TOML or, failing that, as plain text."""
    values: dict[str, Any] = {}
    for word in (word for group in groups for word in group):
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise LookforwardError(f"--set {word}: write NAME=VALUE, such as objective.discount=0.99.")
        try:
            values[name.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value
    return values


def _tell_photos(subject: Any) -> str:
    counts = [len(one.photos) for one in subject.together]
    return f"{sum(counts)} photos" + (f" of {len(counts)} subjects" if len(counts) > 1 else "")


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        console.print(f"Note: {note}")


def _example(folder: Path, settings: Any) -> str:
    words = (
        f"{settings.subject.identifier} {settings.subject.class_noun}"
        if settings.subject.noun_in_prompt
        else settings.subject.identifier
    )
    return f'lookforward generate {shlex.quote(str(folder))} "a photo of {words} on the beach"'
