"""Which pictures a page shows, by rules that are stated on it, and how they are made small enough."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from lookforward.data.prompts import fill
from lookforward.report.blocks import Block, Picture, Section, Sheet, Text
from lookforward.report.data import Benchmark, Result
from lookforward.report.numbers import plain, signed

MOST_PICTURES = 1500
MOST_REFERENCES = 5
CASES = 3  # best, and as many worst
BUDGET = 5_500_000  # bytes of all pictures on a page, as text
_FORMATS = ((192, 88), (128, 85), (96, 80), (64, 75), (48, 60), (32, 50))  # side in pixels, JPEG quality
_JUDGES = ("DINO", "identity", "DINOv2", "CLIP-I", "oracle")
_COMPARED = ("look-forward", "best")


class Case(NamedTuple):
    """One image of a method beside the baseline's from the same noise. at: its place among the cell's images."""

    difference: float
    ours: Result
    theirs: Result
    at: int


def data_uris(pictures: Sequence[np.ndarray], budget: int = BUDGET) -> tuple[list[str], int]:
    """Every picture as a JPEG data URI, and the greatest side in pixels: the first format in which all fit the budget.

    pictures: (h, w, 3) uint8 of any size; small ones are not made larger. Raises ValueError where nothing fits.
    """
    for side, quality in _FORMATS:
        uris, total = [], 0
        for picture in pictures:
            uris.append(_data_uri(picture, side, quality))
            total += len(uris[-1])
            if total > budget:
                break
        else:
            return uris, side
    raise ValueError(f"{len(pictures)} pictures do not fit {budget:,} bytes")


def _data_uri(picture: np.ndarray, side: int, quality: int) -> str:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _small(picture: np.ndarray) -> np.ndarray:
    """As large as a page may show it, and no part of a larger array that would be kept with it."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    side = _FORMATS[0][0]
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(image)


def sheet_section(benchmark: Benchmark) -> Section:
    """References, then every method at the same seed and prompt."""
    first = benchmark.seeds[0] if benchmark.seeds else 0
    methods = [name for name in benchmark.methods if benchmark.of(name)]
    subjects = [s for s in benchmark.subjects if any(r.subject == s and r.seed == first for r in benchmark.results)]
    prompts = 3
    while prompts > 1 and len(subjects) * (MOST_REFERENCES + len(methods) * prompts) > MOST_PICTURES:
        prompts -= 1
    most = max(1, MOST_PICTURES // (MOST_REFERENCES + len(methods) * prompts))
    rule = (
        f"Seed {first}, up to {prompts} of each subject's prompts, a kind each (scene, outfit, look): the first subject"
        " has the first prompt of each kind, the second the second, and so on; where a kind is wanting, the next of"
        " the others. Nothing is picked. In a row, every method drew the first image of the same prompt from the same"
        " noise."
    )
    if len(subjects) > most:
        rule += f" Only the first {most} of {len(subjects)} subjects are shown, to keep the page small."
    blocks: list[Block] = [Text(rule)]
    blocks += [_sheet(benchmark, name, i, first, methods, prompts) for i, name in enumerate(subjects[:most])]
    return Section("Pictures", blocks)


def _sheet(benchmark: Benchmark, name: str, turn: int, seed: int, methods: Sequence[str], count: int) -> Sheet:
    there = {r.method: r for m in methods for r in benchmark.of(m) if (r.subject, r.seed) == (name, seed)}
    drawn = {method: benchmark.pictures(result) for method, result in there.items()}
    references = references_of(benchmark, name)
    # Cells of one subject may have been asked other prompts: a row is a prompt, not a place
    asked = {p: k for result in there.values() for p, k in zip(result.prompts, result.kinds, strict=True)}
    rows: list[tuple[str, list[Sequence[Picture] | Picture | None]]] = []
    chosen = prompts_in_turn(asked, turn, count)
    for i, template in enumerate(chosen):
        words = wording(benchmark, name, template)
        row: list[Sequence[Picture] | Picture | None] = [references[i :: len(chosen)]]
        for method in methods:
            result = there.get(method)
            at = result.prompts.index(template) * result.images if result and template in result.prompts else -1
            pixels = drawn.get(method, ())
            alt = f"{benchmark.label(method)}: {words}"
            row.append(Picture(_small(pixels[at]), alt) if 0 <= at < len(pixels) else None)
        rows.append((words, row))
    columns = ["references", *(benchmark.label(m) for m in methods)]
    return Sheet(f"{name} ({benchmark.subjects[name].class_noun})", columns, rows)


def prompts_in_turn(asked: Mapping[str, str], turn: int, count: int) -> list[str]:
    """Prompts of a mapping from prompt to kind: one of each kind, in the order in which kinds come, and the next every
    turn. Where there are fewer kinds than `count`, the places are filled from the prompts that follow.
    """
    kinds: dict[str, list[str]] = {}
    for prompt, kind in asked.items():
        kinds.setdefault(kind, []).append(prompt)
    chosen = [kind[(turn + i) % len(kind)] for i in range(count) for kind in kinds.values()]
    return list(dict.fromkeys(chosen))[:count]


def case_section(benchmark: Benchmark) -> Section:
    """The best and the worst cases against the baseline."""
    blocks: list[Block] = []
    for method in _COMPARED:
        if method not in benchmark.methods or not benchmark.of(benchmark.baseline):
            continue
        score = judge_of(benchmark, method)
        found = cases(benchmark, method, score) if score else []
        if not found:
            continue
        label, base = benchmark.label(method), benchmark.label(benchmark.baseline)
        blocks.append(
            Text(
                f"Of all {len(found):,} pairs of an image by {label} and one by {base} (same subject, seed, prompt and"
                f" noise): those with the largest and the smallest difference in {score}, the first score of"
                f" {', '.join(_JUDGES)} that neither was trained on. Shown whatever they look like."
            )
        )
        count = min(CASES, len(found) // 2) or 1
        blocks.append(_cases(benchmark, score or "", found[:count], f"{label} minus {base}: the largest differences"))
        if len(found) > 1:
            blocks.append(
                _cases(benchmark, score or "", found[::-1][:count], f"{label} minus {base}: the smallest differences")
            )
    if not blocks:
        blocks.append(Text("There is no pair of look-forward or best with the baseline to show."))
    return Section("Best and worst cases", blocks)


def judge_of(benchmark: Benchmark, method: str) -> str | None:
    """The first score that neither the method nor the baseline optimised."""
    pair = (method, benchmark.baseline)
    return next((s for s in _JUDGES if s in benchmark.scores and not any(benchmark.mark(m, s) for m in pair)), None)


def cases(benchmark: Benchmark, method: str, score: str) -> list[Case]:
    """Every pair of images, the largest difference first; equal ones in the order of the cells."""
    theirs = {(r.subject, r.seed): r for r in benchmark.of(benchmark.baseline)}
    found = []
    for ours in benchmark.of(method):
        base = theirs.get((ours.subject, ours.seed))
        if base is None or base.prompts != ours.prompts or base.images != ours.images:
            continue
        a, b = ours.scores.get(score, ()), base.scores.get(score, ())
        if len(a) != len(b) or len(a) != len(ours.prompts) * ours.images:
            continue
        found += [Case(x - y, ours, base, i) for i, (x, y) in enumerate(zip(a, b, strict=True)) if x - y == x - y]
    return sorted(found, key=lambda case: -case.difference)


def _cases(benchmark: Benchmark, score: str, chosen: Sequence[Case], caption: str) -> Sheet:
    rows: list[tuple[str, list[Sequence[Picture] | Picture | None]]] = []
    for case in chosen:
        name = case.ours.subject
        words = wording(benchmark, name, case.ours.prompts[case.at // case.ours.images])
        row: list[Sequence[Picture] | Picture | None] = [references_of(benchmark, name)[:2] or None]
        for result in (case.theirs, case.ours):
            pixels = benchmark.pictures(result)
            note = f"{score} {plain(result.scores[score][case.at])}"
            alt = f"{benchmark.label(result.method)}: {words}"
            row.append(Picture(_small(pixels[case.at]), alt, note) if case.at < len(pixels) else None)
        rows.append((f"{name}, seed {case.ours.seed}: {words} ({signed(case.difference)})", row))
    labels = [benchmark.label(r.method) for r in (chosen[0].theirs, chosen[0].ours)]
    return Sheet(caption, ["references", *labels], rows)


def references_of(benchmark: Benchmark, name: str) -> list[Picture]:
    return [
        Picture(_small(pixels), f"{name}, photo {i}")
        for i, pixels in enumerate(benchmark.references(name)[:MOST_REFERENCES], start=1)
    ]


def wording(benchmark: Benchmark, subject: str, template: str) -> str:
    """A prompt without the identifier, as it is scored."""
    return fill(template, "", benchmark.subjects[subject].class_noun)
