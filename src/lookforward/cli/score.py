"""Score a finished run: how alike its images are to the photos, and how well they follow the prompts."""

import json
from pathlib import Path
from typing import Any

import tyro

from lookforward.bundle import find_bundle
from lookforward.cli.console import console, print_notes, split_words
from lookforward.cli.options import ExtraScores


def score(
    run: tyro.conf.Positional[Path],
    prompts: Path | None = None,
    images: int = 2,
    seed: int = 0,
    dino: str | None = None,
    clip: str | None = None,
    extra_scores: ExtraScores = (),
    dinov2: str | None = None,
    identifier_in_clip_text: bool = False,
) -> None:
    """Score a finished run: DINO and CLIP-I against its photos, CLIP-T against the prompts, oracle on Toybox.

    Args:
        run: Run folder.
        prompts: Text file, one prompt a line, {} where identifier and class noun go; the benchmark's own
            if not given.
        images: How many for each prompt.
        seed: Seed of the first image.
        dino: Folder or hub id of another DINO.
        clip: Folder or hub id of another CLIP.
        extra_scores: Further scores, of docs/scores.md or a function of your own.
        dinov2: Folder or hub id of another DINOv2; asks for its score.
        identifier_in_clip_text: CLIP-T sees the identifier too.
    """
    import numpy as np

    from lookforward.api import load_personalized
    from lookforward.assembly import build_evaluators, build_scores
    from lookforward.assembly.prompts import prompt_notes
    from lookforward.benchmark.optimised import optimised_scores
    from lookforward.benchmark.plan import Scoring
    from lookforward.data.prompts import benchmark_prompts, clip_text, fill, read_prompt_file
    from lookforward.data.subjects import photos_of, read_subject
    from lookforward.files import write_json
    from lookforward.models.sampling import check_count, check_numbers, draw_images
    from lookforward.scores.evaluate import score_images

    check_count(images, "images")
    check_numbers(seeds=[seed])
    extra = asked_scores(extra_scores, dinov2, images)
    model = load_personalized(run)
    settings = model.run.settings
    subject = read_subject(photos_of(settings), settings)
    model.run.require_photos(subject.digests)
    if subject.others:
        console.print(f"Note: only the first of {len(subject.together)} subjects is scored, {subject.name}.")
    evaluators = build_evaluators(settings.model.name, extra=extra, dino=dino, clip=clip, dinov2=dinov2)
    templates = tuple(read_prompt_file(prompts)) if prompts else benchmark_prompts(settings.subject.class_noun)
    noun = settings.subject.class_noun if settings.subject.noun_in_prompt else ""  # as the prompts of training
    asked = [fill(t, settings.subject.identifier, noun) for t in templates for _ in range(images)]
    words = settings.subject.identifier, settings.subject.class_noun
    texts = [clip_text(t, *words, identifier_in_clip_text) for t in templates for _ in range(images)]
    print_notes(prompt_notes(model.pipeline, model.source.manifest, list(dict.fromkeys(asked))))
    drawn = draw_images(
        model.pipeline, asked, list(range(seed, seed + len(asked))),
        steps=settings.evaluation.sampler_steps, guidance=settings.evaluation.guidance,
        resolution=settings.data.resolution,
    )  # fmt: skip
    references = np.stack([photo.pixels for photo in subject.photos])
    bundle = find_bundle()
    drawing = bundle.known_drawing(Path(settings.subject.photos)) if bundle else None
    values = score_images(build_scores(evaluators, references, drawing), drawn, texts)
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
    number = 1
    while True:
        place = run / ("scores.json" if number == 1 else f"scores-{number}.json")
        try:
            before = json.loads(place.read_text(encoding="utf-8"))
            if {**before, "means": None} == json.loads(json.dumps({**record, "means": None})):
                return place
        except OSError:  # missing; an unreadable one raises when it is written
            return place
        except (ValueError, TypeError):
            pass  # cut off, or something else: left as it is
        number += 1


def asked_scores(extra: tuple[str, ...], dinov2: str | None, images: int) -> tuple[str, ...]:
    """The further scores that are asked for, each once.

    Raises:
        LookforwardError: a package or a file that one of them needs is missing.
    """
    from lookforward.assembly import check_extra_scores

    words = tuple(dict.fromkeys((*split_words(extra), "dinov2") if dinov2 else split_words(extra)))
    check_extra_scores(words, images)
    return words
