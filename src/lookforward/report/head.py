"""The head of a report: what was run, what is missing of it, and the result in words."""

from collections import Counter
from collections.abc import Sequence

from lookforward.report.blocks import Block, Section, Table, Text
from lookforward.report.data import UNTOUCHED, Benchmark
from lookforward.report.numbers import difference, per_cent, signed

_COMPARED = ("look-forward", "best")
_LONG = 12  # rows of a table that is folded


def head_section(benchmark: Benchmark) -> Section:
    """What was run, and what is missing of it, before any figure."""
    shown = {r.subject for r in benchmark.results}
    live = sum(benchmark.subjects[s].live for s in shown)
    asked = sorted({len(r.prompts) for r in benchmark.results})
    each = sorted({r.images for r in benchmark.results})
    drawn = sum(len(r.prompts) * r.images for r in benchmark.results)
    steps = sorted({r.steps for r in benchmark.results if r.method != UNTOUCHED and r.steps})
    finished = len(benchmark.planned) - len(benchmark.missing)
    rows = [
        ("data set", benchmark.dataset),
        ("base model", benchmark.model),
        ("methods", "; ".join(m.label for m in benchmark.methods.values())),
        ("subjects", f"{len(shown)}: {len(shown) - live} objects, {live} live"),
        ("seeds", ", ".join(map(str, benchmark.seeds))),
        ("prompts for each subject", _either(asked)),
        ("images for each prompt", _either(each)),
        ("images in all", f"{drawn:,}"),
        ("training steps", _either(steps)),
        ("cells finished", f"{finished:,} of {len(benchmark.planned):,}"),
        ("when", benchmark.when),
        ("measured with", benchmark.versions),
    ]
    blocks: list[Block] = [*_missing(benchmark), Table("What was run", ["", ""], rows)]
    return Section("What this is", [*blocks, *_spoken(benchmark)])


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(f"{n:,}" for n in numbers) or "–"


def _missing(benchmark: Benchmark) -> list[Block]:
    """That all is there, or what is not."""
    missing, blocks = benchmark.missing, []
    if missing:
        blocks.append(
            Text(
                f"Not complete: {len(missing):,} of {len(benchmark.planned):,} cells are missing. A method's means are"
                " over what it has; differences are over what both have.",
                loud=True,
            )
        )
        rows = _missing_rows(benchmark)
        blocks.append(Table("Missing cells", ["method", "seed", "subjects"], rows, folded=len(rows) > _LONG))
    else:
        blocks.append(Text(f"Complete: all {len(benchmark.planned):,} cells are finished."))
    if benchmark.problems:
        rows = [[p.where, p.why] for p in benchmark.problems]
        some = "1 cell" if len(rows) == 1 else f"{len(rows):,} cells"
        words = f"{some} failed, cannot be read, or left out as broken or made with other settings."
        blocks.append(Text(words, loud=True))
        blocks.append(Table("Failed cells", ["cell", "why"], rows, folded=len(rows) > _LONG))
    blocks += [Text(warning, loud=True) for warning in benchmark.warnings]
    return [*blocks, Text(benchmark.left_out)] if benchmark.left_out else blocks


def _missing_rows(benchmark: Benchmark) -> list[list[str]]:
    """A row for each method and seed: subjects by name, unless none is there."""
    asked = Counter((method, seed) for _, method, seed in benchmark.planned)
    absent: dict[tuple[str, int], list[str]] = {}
    for subject, method, seed in benchmark.missing:
        absent.setdefault((method, seed), []).append(subject)
    return [
        [
            benchmark.label(method),
            str(seed),
            f"all {len(names)}" if len(names) == asked[method, seed] > 1 else ", ".join(names),
        ]
        for (method, seed), names in absent.items()
    ]


def _spoken(benchmark: Benchmark) -> list[Block]:
    """What the intervals say of look-forward and best, in words."""
    blocks: list[Block] = []
    for method in _COMPARED:
        if method not in benchmark.methods or method == benchmark.baseline:
            continue
        parts = []
        for score in benchmark.scores:
            found = difference(benchmark, method, score)
            if found is None:
                continue
            mean, low, high = found.interval
            if low != low:
                verdict = "of one subject, which says nothing about others"
            elif low > 0 or high < 0:
                verdict = "the interval excludes nought"
            else:
                verdict = "the interval holds nought: no difference shown"
            bounds = "" if low != low else f" [{signed(low)}, {signed(high)}]"
            change = "" if found.relative is None else f" ({per_cent(found.relative)})"
            parts.append(
                f"{score}{benchmark.mark(method, score, benchmark.baseline)} {signed(mean)}{change}{bounds}, {verdict}"
            )
        if parts:
            base = benchmark.label(benchmark.baseline)
            blocks.append(Text(f"{benchmark.label(method)} against {base}: {'; '.join(parts)}."))
    return blocks
