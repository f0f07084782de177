"""The figures that README and docs/results.md tell are those of the report that the benchmark wrote."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs" / "results" / "benchmark.md"
SCORES = ["DINO", "CLIP-I", "CLIP-T", "identity", "oracle"]


def rows(text: str, first: str) -> dict[str, list[str]]:
    """Label to the cells of the first table whose head is `first` and the scores; without bold and escapes."""
    lines = [re.sub(r"\*\*|\\", "", line) for line in text.splitlines()]
    table = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.startswith("|")]
    heads = [i for i, cells in enumerate(table) if cells == [*first.split("|"), *SCORES]]
    found: dict[str, list[str]] = {}
    for cells in table[heads[0] + 2 :]:
        if cells[1:] == [] or cells[-1] in SCORES or not re.search(r"\d", cells[-1]) or cells[0] in found:
            break
        found[cells[0].removesuffix(" (floor)")] = cells[-len(SCORES) :]
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_scores_are_those_of_the_report(page: str) -> None:
    told, measured = rows((ROOT / page).read_text(encoding="utf-8"), ""), rows(REPORT.read_text(), "method|cells")
    assert len(told) >= 4
    assert {label: measured[label] for label in told} == told


def test_differences_are_those_of_the_report() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    told = rows(text[text.index("Differences from DreamBooth") :], "")
    measured = rows(REPORT.read_text(encoding="utf-8"), "method|pairs")
    assert told.keys() == measured.keys()
    for label, cells in told.items():
        for said, cell in zip(cells, measured[label], strict=True):
            assert said == re.sub(r", [+−][\d.]+%", "", cell), label
