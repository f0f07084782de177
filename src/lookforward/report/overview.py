"""The first section: what was run, what is missing of it, and the result in words."""

from collections import Counter
from collections.abc import Iterable, Sequence

from lookforward.report.aggregate import difference, percent, signed
from lookforward.report.blocks import Block, Section, Table, Text
from lookforward.report.data import CELL, UNTOUCHED, Benchmark

COMPARED = ("look-forward", "best")  # methods that the report sets beside the baseline in words and pictures
_LONG = 12  # rows from which a table is folded


def overview_section(benchmark: Benchmark) -> Section:
    """What was run, and what is missing of it, before any score."""
    cells, images = benchmark.cells, benchmark.images
    subjects = cells.drop_duplicates("subject")
    live, styles = (int((subjects.group == group).sum()) for group in ("live subjects", "styles"))
    kinds = f"{len(subjects) - live - styles} objects, {live} live" + (f", {styles} styles" if styles else "")
    steps = cells[(cells.method != UNTOUCHED) & (cells.steps > 0)].steps
    finished = len(benchmark.planned) - len(benchmark.missing)
    rows = [
        ("data set", benchmark.dataset),
        ("base model", benchmark.model),
        ("methods", "; ".join(method.label for method in benchmark.methods.values())),
        ("subjects", f"{len(subjects)}: {kinds}"),
        ("seeds", ", ".join(map(str, benchmark.seeds))),
        ("prompts per subject", _either(images.groupby(CELL).prompt.nunique())),
        ("images per prompt", _either(cells["count"])),
        ("images in total", f"{len(images):,}"),
        ("training steps", _either(steps)),
        ("cells finished", f"{finished:,} of {len(benchmark.planned):,}"),
        ("when", benchmark.when),
        ("measured with", benchmark.versions),
    ]
    return Section("What this is", [*_missing(benchmark), Table("What was run", ["", ""], rows), *_in_words(benchmark)])


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(f"{n:,}" for n in sorted(set(numbers))) or "–"


def _missing(benchmark: Benchmark) -> list[Block]:
    """That everything is there, or what is not."""
    missing, blocks = benchmark.missing, []
    if missing:
        text = (
            f"Not complete: {len(missing):,} of {len(benchmark.planned):,} cells are missing. A method's means are over"
            " the cells it has; differences are over the cells that both methods have."
        )
        blocks.append(Text(text, warning=True))
        blocks.append(_folded("Missing cells", ["method", "seed", "subjects"], _missing_rows(benchmark)))
    else:
        blocks.append(Text(f"Complete: all {len(benchmark.planned):,} cells are finished."))
    if count := len(benchmark.problems):
        cells = "1 cell" if count == 1 else f"{count:,} cells"
        text = f"{cells} failed, could not be read, or were left out as broken or run with other settings."
        blocks.append(Text(text, warning=True))
        blocks.append(_folded("Failed cells", ["cell", "why"], [[p.where, p.why] for p in benchmark.problems]))
    blocks += [Text(warning, warning=True) for warning in benchmark.warnings]
    return [*blocks, Text(benchmark.ignored)] if benchmark.ignored else blocks


def _folded(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(caption, columns, rows, folded=len(rows) > _LONG)


def _missing_rows(benchmark: Benchmark) -> list[list[str]]:
    """A row per method and seed: the missing subjects by name, or that it is all of them."""
    planned = Counter((method, seed) for _, method, seed in benchmark.planned)
    rows = []
    for method, seed in dict.fromkeys(key[1:] for key in benchmark.missing):
        names = [subject for subject, *rest in benchmark.missing if rest == [method, seed]]
        everyone = len(names) == planned[method, seed] > 1
        rows.append([benchmark.label(method), str(seed), f"all {len(names)}" if everyone else ", ".join(names)])
    return rows


def _in_words(benchmark: Benchmark) -> list[Block]:
    """What the intervals say about the compared methods."""
    blocks: list[Block] = []
    for method in COMPARED:
        if method not in benchmark.methods or method == benchmark.baseline:
            continue
        parts = []
        for score in benchmark.scores:
            found = difference(benchmark, method, score)
            if found is None:
                continue
            mean, low, high = found.interval
            bounds, verdict = (
                f" [{signed(low)}, {signed(high)}]",
                "the interval includes zero: no measurable difference",
            )
            if not found.interval.known:
                bounds, verdict = "", "with one subject, which says nothing about others"
            elif low > 0 or high < 0:
                verdict = "the interval excludes zero"
            change = "" if found.relative is None else f" ({percent(found.relative)})"
            mark = benchmark.mark(method, score, benchmark.baseline)
            parts.append(f"{score}{mark} {signed(mean)}{change}{bounds}, {verdict}")
        if parts:
            base = benchmark.label(benchmark.baseline)
            blocks.append(Text(f"{benchmark.label(method)} against {base}: {'; '.join(parts)}."))
    return blocks
