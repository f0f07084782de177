"""Score a finished run: similarity of its images to the photos, and prompt following."""

import json
import os
from pathlib import Path
from typing import Any

import tyro

from lookforward.bundle import find_bundle
from lookforward.cli.console import console, print_notes, split_words
from lookforward.cli.options import ExtraScores
from lookforward.errors import LookforwardError
from lookforward.records import parse_json, read_bytes


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
    """Score a finished run: DINO and CLIP-I for the subject, CLIP-T for the prompts, on Toybox also the oracle.

    Args:
        run: Run folder.
        prompts: Text file, one prompt per line, with {} for identifier and class noun. Default: the benchmark's
            prompts.
        images: Number of images for each prompt.
        seed: Seed of the first image.
        dino: Folder or hub ID of another DINO.
        clip: Folder or hub ID of another CLIP.
        extra_scores: Additional scores: names from docs/scores.md, or your own function.
        dinov2: Folder or hub ID of another DINOv2. Also turns on its score.
        identifier_in_clip_text: Keep the identifier in the text for CLIP-T.
    """
    import numpy as np

    from lookforward.api import load_personalized
    from lookforward.assembly import build_evaluators
    from lookforward.benchmark.optimised import optimised_scores
    from lookforward.benchmark.plan import Scoring
    from lookforward.data.prompts import benchmark_prompts, read_prompt_file
    from lookforward.data.subjects import photos_of, read_subject
    from lookforward.files import write_json
    from lookforward.models.sampling import check_count, check_numbers

    check_count(images, "images")
    check_numbers(seeds=[seed])
    extra = asked_scores(extra_scores, dinov2, images)
    model = load_personalized(run)
    settings = model.run.settings
    subject = read_subject(photos_of(settings), settings)
    model.run.require_photos(subject.digests)
    evaluators = build_evaluators(settings.model.name, extra=extra, dino=dino, clip=clip, dinov2=dinov2)
    own = tuple(read_prompt_file(prompts)) if prompts else ()
    by_subject: dict[str, dict[str, float]] = {}
    templates: dict[str, None] = {}
    count = 0
    for one in subject.together:
        asked_for = own or benchmark_prompts(one.class_noun)
        values = _score_subject(model, one, asked_for, evaluators, images, seed + count, identifier_in_clip_text)
        by_subject[one.name] = {name: float(v.mean()) for name, v in values.items()}
        templates |= dict.fromkeys(asked_for)
        count += images * len(asked_for)
    names = next(iter(by_subject.values()))
    means = {name: float(np.mean([one[name] for one in by_subject.values() if name in one])) for name in names}
    scoring = Scoring(identifier_in_clip_text, extra, dinov2, dino, clip)
    optimised = [name for name in optimised_scores(settings, scoring) if name in means]
    record = {
        "means": means, "optimised": optimised, "images": count, "prompts": list(templates), "seed": seed,
        "identifier_in_clip_text": identifier_in_clip_text, "encoders": scoring.encoders(),
        **({"subjects": by_subject} if subject.others else {}),
    }  # fmt: skip
    place = _place_of_scores(run, record)
    write_json(place, record)
    for title, values in (by_subject if subject.others else {"": means}).items():
        if title:
            console.print(f"{title}:")
        for name, mean in values.items():
            console.print(f"{name:9} {mean:.4f}{' †' if name in optimised else ''}")
    if optimised:
        console.print("† the method was trained on this score, so it is not evidence for the method.")
    console.print(f"means over {count} images of {len(templates)} prompts, in {place}")


def _score_subject(
    model: Any, one: Any, templates: tuple[str, ...], evaluators: Any, images: int, seed: int, identifier_in_clip: bool
) -> dict[str, Any]:
    """All scores of one subject by name, over `images` images of each prompt. seed: of the first image."""
    import numpy as np

    from lookforward.assembly import build_scores
    from lookforward.assembly.prompts import prompt_notes
    from lookforward.data.prompts import clip_text, fill
    from lookforward.models.sampling import draw_images
    from lookforward.scores.evaluate import score_images

    settings = model.run.settings
    noun = one.class_noun if one.noun_in_prompt else ""  # as the prompts of training
    asked = [fill(t, one.identifier, noun) for t in templates for _ in range(images)]
    texts = [clip_text(t, one.identifier, one.class_noun, identifier_in_clip) for t in templates for _ in range(images)]
    print_notes(prompt_notes(model.pipeline, model.source.manifest, list(dict.fromkeys(asked))))
    drawn = draw_images(
        model.pipeline, asked, list(range(seed, seed + len(asked))),
        steps=settings.evaluation.sampler_steps, guidance=settings.evaluation.guidance,
        resolution=settings.data.resolution,
    )  # fmt: skip
    references = np.stack([photo.pixels for photo in one.photos])
    bundle = find_bundle()
    drawing = bundle.known_drawing(one.photos[0].path.parent) if bundle else None
    return score_images(build_scores(evaluators, references, drawing), drawn, texts)


def _place_of_scores(run: Path, record: dict[str, Any]) -> Path:
    """scores.json, or that name with a number where it holds scores that were taken otherwise."""
    number = 1
    while True:
        place = run / ("scores.json" if number == 1 else f"scores-{number}.json")
        try:
            before = parse_json(read_bytes(place))
            if {**before, "means": None, "subjects": None} == json.loads(
                json.dumps({**record, "means": None, "subjects": None})
            ):
                return place
        except LookforwardError:
            if not os.path.lexists(place):
                return place
        except (ValueError, TypeError):
            pass  # cut off, or something else: left as it is
        number += 1


def asked_scores(extra: tuple[str, ...], dinov2: str | None, images: int) -> tuple[str, ...]:
    """The requested additional scores, without duplicates.

    Raises:
        LookforwardError: a package or a file that one of them needs is missing.
    """
    from lookforward.assembly import check_extra_scores

    words = tuple(dict.fromkeys((*split_words(extra), "dinov2") if dinov2 else split_words(extra)))
    check_extra_scores(words, images)
    return words
