"""Which pictures a page shows, by rules that the page states: nobody picks any."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from lookforward.data.prompts import fill
from lookforward.report.aggregate import plain, signed
from lookforward.report.blocks import Block, Picture, Section, Sheet, Text
from lookforward.report.data import Benchmark
from lookforward.report.overview import COMPARED

MOST_PICTURES = 1500
MOST_REFERENCES = 5
MOST_PIXELS = 192  # a side
CASES = 3  # best, and as many worst
UNSEEN_SCORES = ("DINO", "identity", "DINOv2", "CLIP-I", "oracle")  # by which cases are ordered, the first that applies


def sheet_section(benchmark: Benchmark) -> Section:
    """References, then every method at the same seed and prompt."""
    first = min(benchmark.seeds, default=0)
    cells, methods = benchmark.cells, benchmark.present
    there = set(cells[cells.seed == first].subject)
    subjects = [name for name in benchmark.subjects if name in there]
    prompts = 3
    while prompts > 1 and len(subjects) * (MOST_REFERENCES + len(methods) * prompts) > MOST_PICTURES:
        prompts -= 1
    most = max(1, MOST_PICTURES // (MOST_REFERENCES + len(methods) * prompts))
    rule = (
        f"Seed {first}, up to {prompts} of each subject's prompts, one of each kind (scene, accessory, property): the"
        " first subject has the first prompt of each kind, the second subject the second, and so on; where a kind is"
        " missing, the next prompt of the others. Nobody picked a picture. In a row, every method drew the first image"
        " of the same prompt from the same noise."
    )
    if len(subjects) > most:
        rule += f" Only the first {most} of {len(subjects)} subjects are shown, to keep the page small."
    sheets = [_sheet(benchmark, name, i, first, methods, prompts) for i, name in enumerate(subjects[:most])]
    return Section("Pictures", [Text(rule), *sheets])


def _sheet(benchmark: Benchmark, name: str, turn: int, seed: int, methods: Sequence[str], count: int) -> Sheet:
    images = benchmark.images
    images = images[(images.subject == name) & (images.seed == seed)].drop_duplicates(["method", "prompt"])
    # Cells of one subject may have other prompts: a row is a prompt, not a place
    kinds = dict(zip(images.prompt, images.prompt_kind, strict=True))
    references, chosen = _references(benchmark, name), prompts_in_turn(kinds, turn, count)
    rows: list[tuple[str, Sequence[Sequence[Picture]]]] = []
    for i, template in enumerate(chosen):
        words = _wording(benchmark, name, template)
        of_prompt = images[images.prompt == template].set_index("method").image
        row: list[Sequence[Picture]] = [references[i :: len(chosen)]]
        for method in methods:
            at = of_prompt.get(method)
            drawn = benchmark.drawn((name, method, seed)) if at is not None else ()
            row.append(_picture(drawn, at, f"{benchmark.label(method)}: {words}"))
        rows.append((words, row))
    columns = ["references", *map(benchmark.label, methods)]
    return Sheet(f"{name} ({benchmark.subjects[name].class_noun})", columns, rows)


def prompts_in_turn(kinds: Mapping[str, str], turn: int, count: int) -> list[str]:
    """Prompts of a mapping from prompt to kind: one of each kind, the next one every turn.

    Where there are fewer kinds than `count`, the prompts that follow fill the places.
    """
    by_kind: dict[str, list[str]] = {}
    for prompt, kind in kinds.items():
        by_kind.setdefault(kind, []).append(prompt)
    chosen = [prompts[(turn + i) % len(prompts)] for i in range(count) for prompts in by_kind.values()]
    return list(dict.fromkeys(chosen))[:count]


def case_section(benchmark: Benchmark) -> Section:
    """The best and the worst cases against the baseline."""
    blocks: list[Block] = []
    for method in COMPARED:
        score = unseen_score(benchmark, method)
        found = cases(benchmark, method, score) if score else pd.DataFrame()
        if not score or found.empty:
            continue
        label, base = benchmark.label(method), benchmark.label(benchmark.baseline)
        blocks.append(
            Text(
                f"Of all {len(found):,} pairs of an image by {label} and one by {base} (same subject, seed, prompt and"
                f" noise): those with the largest and the smallest difference in {score}, the first score of"
                f" {', '.join(UNSEEN_SCORES)} that neither method optimised. Shown whatever they look like."
            )
        )
        count = min(CASES, len(found) // 2) or 1
        blocks.append(_cases(benchmark, method, score, found[:count], f"{label} minus {base}: the largest differences"))
        if len(found) > 1:
            caption = f"{label} minus {base}: the smallest differences"
            blocks.append(_cases(benchmark, method, score, found[::-1][:count], caption))
    if not blocks:
        blocks.append(Text("There is no pair of look-forward or best with the baseline to show."))
    return Section("Best and worst cases", blocks)


def unseen_score(benchmark: Benchmark, method: str) -> str | None:
    """The first score that neither the method nor the baseline optimised."""
    marks = {score: benchmark.mark(method, score, benchmark.baseline) for score in benchmark.scores}
    return next((score for score in UNSEEN_SCORES if marks.get(score) == ""), None)


def cases(benchmark: Benchmark, method: str, score: str) -> pd.DataFrame:
    """Every pair of images, the largest difference first; equal ones in the order of the cells.

    A row has subject, seed, image, prompt, ours, base and difference.
    """
    keys, base = ["subject", "seed", "image", "prompt"], benchmark.images_of(benchmark.baseline)
    pairs = benchmark.images_of(method)[[*keys, score]].merge(base[[*keys, score]], on=keys, suffixes=("", "_base"))
    pairs = pairs.rename(columns={score: "ours", f"{score}_base": "base"}).dropna()
    return pairs.assign(difference=pairs.ours - pairs.base).sort_values("difference", ascending=False, kind="stable")


def _cases(benchmark: Benchmark, method: str, score: str, chosen: pd.DataFrame, caption: str) -> Sheet:
    rows: list[tuple[str, Sequence[Sequence[Picture]]]] = []
    sides = {benchmark.baseline: "base", method: "ours"}
    for _, case in chosen.iterrows():
        words = _wording(benchmark, case.subject, case.prompt)
        row: list[Sequence[Picture]] = [_references(benchmark, case.subject)[:2]]
        for name, side in sides.items():
            drawn, alt = benchmark.drawn((case.subject, name, case.seed)), f"{benchmark.label(name)}: {words}"
            row.append(_picture(drawn, case.image, alt, f"{score} {plain(case[side])}"))
        rows.append((f"{case.subject}, seed {case.seed}: {words} ({signed(case.difference)})", row))
    return Sheet(caption, ["references", *map(benchmark.label, sides)], rows)


def _picture(drawn: Sequence[np.ndarray], at: int | None, alt: str, note: str = "") -> list[Picture]:
    return [Picture(_small(drawn[at]), alt, note)] if at is not None and at < len(drawn) else []


def _references(benchmark: Benchmark, name: str) -> list[Picture]:
    photos = benchmark.references(name)[:MOST_REFERENCES]
    return [Picture(_small(pixels), f"{name}, photo {i}", photo=True) for i, pixels in enumerate(photos, start=1)]


def _small(picture: np.ndarray) -> np.ndarray:
    """As large as a page may show it, in an array of its own."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.LANCZOS)
    return np.array(image)


def _wording(benchmark: Benchmark, subject: str, template: str) -> str:
    """A prompt without the identifier, as it is scored."""
    return fill(template, "", benchmark.subjects[subject].class_noun)
