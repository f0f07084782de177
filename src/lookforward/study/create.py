"""Plan a study of finished runs, and draw its images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookforward import __version__
from lookforward.data.prompts import benchmark_prompts, clip_text, fill
from lookforward.errors import LookforwardError
from lookforward.files import read_json
from lookforward.models.sampling import check_count, check_numbers, draw_images
from lookforward.provenance.origin import Source
from lookforward.provenance.save import save_image
from lookforward.runs.folder import PHOTOS, Run, open_run
from lookforward.study.statistics import every_two
from lookforward.study.store import StudyFile, StudyPlan

_PHOTOS = 6  # shown of a subject


@dataclass(frozen=True)
class StudyRun:
    """A finished run, by the subject it learned and the method it was trained with."""

    run: Run
    subject: str
    method: str


def method_of(run: Run) -> str:
    """The recipe's name, with @adapter unless that is full."""
    adapter = run.settings.adapter.name
    return Path(run.settings.run.recipe).stem + ("" if adapter == "full" else f"@{adapter}")


def find_runs(folders: Sequence[Path], methods: Sequence[str] = ()) -> tuple[list[str], list[StudyRun]]:
    """The methods to compare and their runs, each method once for every subject.

    Runs belong together if they learned the same photos with the same seed. methods: those to compare; all that there
    are where it is empty.

    Raises:
        LookforwardError: a run is not finished, a subject lacks a method or has it twice, or there are fewer than two
            methods.
    """
    found: dict[tuple[str, str], StudyRun] = {}
    names: dict[tuple[str, ...], str] = {}
    for folder in folders:
        run = open_run(folder)
        method = method_of(run)
        if methods and method not in methods:
            continue
        if not run.finished:
            raise LookforwardError(
                f"{folder} is not finished: give its `lookforward train` command again first.", "run-unfinished"
            )
        if run.settings.subject.others:
            raise LookforwardError(
                f"{folder} has several subjects: a study takes runs of one subject each.", code="study-subjects"
            )
        same = (*read_json(folder / PHOTOS, list[str]), str(run.settings.run.seed))
        plain = f"{Path(run.settings.subject.photos.split(', ')[0]).name} seed {run.settings.run.seed}"
        subject = names.setdefault(same, plain if plain not in names.values() else f"{plain} ({len(names) + 1})")
        if (subject, method) in found:
            raise LookforwardError(
                f"{found[subject, method].run.folder} and {folder} are both {method} of {subject}: give one of them.",
                "study-run-twice",
            )
        found[subject, method] = StudyRun(run, subject, method)
    # The baseline last, as in the paper's table
    chosen = list(methods) or sorted({method for _, method in found}, key=lambda name: (name == "dreambooth", name))
    if len(chosen) < 2:
        raise LookforwardError(
            f"A study compares two methods or more, and these runs have {', '.join(chosen) or 'none'}: give runs of "
            "the same photos with another recipe.",
            "study-methods",
        )
    missing = [f"{m} of {subject}" for subject in names.values() for m in chosen if (subject, m) not in found]
    if missing or not found:
        raise LookforwardError(
            f"Runs are missing: {', '.join(missing) or ', '.join(chosen)}. Each subject needs a run of every method; "
            "--compare chooses the methods.",
            "study-runs-missing",
        )
    return chosen, [found[subject, method] for subject in names.values() for method in chosen]


def plan_study(
    folders: Sequence[Path],
    methods: Sequence[str] = (),
    *,
    prompts: Sequence[str] = (),
    prompt_count: int = 5,
    candidates: int = 8,
    shown: int = 0,
    repeats: int = 3,
    seed: int = 0,
) -> tuple[StudyPlan, list[StudyRun]]:
    """What a study of these runs will be, checked; draws and writes nothing.

    prompts: templates to choose from; the benchmark's where it is empty. prompt_count: how many of each subject, at
    random by `seed`, 0 for all. methods: see `find_runs`; the rest: see `StudyPlan`.

    Raises:
        LookforwardError: as `find_runs`, or a number is out of range.
    """
    check_count(candidates, "candidates")
    check_numbers(seeds=[seed])
    for name, number in (("prompt-count", prompt_count), ("shown", shown), ("repeats", repeats)):
        if number < 0:
            raise LookforwardError(f"--{name} {number}: give a number from 0.", code="option-range")
    chosen, found = find_runs(folders, methods)
    rng, asked = np.random.default_rng(seed), {}
    for one in found:
        if one.subject not in asked:
            every = list(dict.fromkeys(prompts or benchmark_prompts(one.run.settings.subject.class_noun)))
            some = sorted(rng.permutation(len(every))[: prompt_count or len(every)])
            asked[one.subject] = [every[i] for i in some]
    names = [one.run.folder.resolve().name for one in found]
    return StudyPlan(chosen, names, asked, candidates, seed, shown, repeats, __version__), found


def create_study(
    study: StudyFile,
    plan: StudyPlan,
    runs: Sequence[StudyRun],
    *,
    clip: str | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> None:
    """Draw and store what is missing, then open the study. An interrupted call goes on where it stopped.

    clip: folder or hub id of another CLIP to pick images by. on_image: called after each stored image.

    Raises:
        LookforwardError: the file is another study, a run cannot be loaded, or the disk is full.
    """
    study.create(plan)
    for one in runs:
        wanted = [p for p in plan.prompts[one.subject] if not study.has_image(one.subject, p, one.method)]
        if wanted:
            _draw(study, plan, one, wanted, clip, on_image)
    words = {one.subject: one.run.settings.subject for one in runs}
    pairs = [
        (subject, prompt, clip_text(prompt, words[subject].identifier, words[subject].class_noun), first, second)
        for subject, prompts in plan.prompts.items()
        for prompt in prompts
        for first, second in every_two(plan.methods)
    ]
    study.finish(pairs)


def _draw(
    study: StudyFile,
    plan: StudyPlan,
    one: StudyRun,
    prompts: Sequence[str],
    clip: str | None,
    on_image: Callable[[], None],
) -> None:
    """Draw the candidates of each prompt with one run, and store the one to show."""
    from lookforward.api import load_personalized
    from lookforward.assembly.evaluators import Evaluators, build_scores, encoder_sources
    from lookforward.data.subjects import photos_of, read_subject
    from lookforward.models.encoders import Encoders
    from lookforward.models.load_pipeline import find_device
    from lookforward.scores.evaluate import score_images

    model = load_personalized(one.run.folder)
    settings = one.run.settings
    subject = read_subject(photos_of(settings), settings)
    one.run.require_photos(subject.digests)
    references = np.stack([photo.pixels for photo in subject.photos])
    study.add_references(one.subject, [as_png(pixels, None) for pixels in references[:_PHOTOS]])
    source = encoder_sources(settings.model.name, clip=clip)["clip"]
    scores = build_scores(Evaluators(Encoders({"clip": source}, find_device("auto"), published=True)), references)
    by_clip = [score for score in scores if score.name == "CLIP-T"]
    noun = subject.class_noun if subject.noun_in_prompt else ""
    for prompt in prompts:
        seeds = [plan.seed + i for i in range(plan.candidates)]
        images = draw_images(
            model.pipeline, [fill(prompt, subject.identifier, noun)] * len(seeds), seeds,
            steps=settings.evaluation.sampler_steps, guidance=settings.evaluation.guidance,
            resolution=settings.data.resolution,
        )  # fmt: skip
        text = clip_text(prompt, subject.identifier, subject.class_noun)
        values = score_images(by_clip, np.stack(list(images)), [text] * len(seeds))["CLIP-T"]
        best = int(values.argmax())
        png = as_png(images[best], "generated")
        study.add_image(one.subject, prompt, one.method, png, seeds[best], float(values[best]))
        on_image()


def as_png(pixels: np.ndarray, source: Source | None) -> bytes:
    """An image (h, w, 3) uint8 as PNG. It says that it is generated and nothing of how, as raters must not know."""
    file = io.BytesIO()
    save_image(pixels, file, source, format="PNG")
    return file.getvalue()
