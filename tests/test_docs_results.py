"""The figures in README and docs/results.md are those of the benchmark's own report."""

import re
import tarfile
from pathlib import Path

import pytest

from lookforward.benchmark.reading import read_benchmark
from lookforward.report.render import write_report

ROOT = Path(__file__).parents[1]
REPORT = (ROOT / "docs" / "results" / "benchmark.md").read_text(encoding="utf-8")
SCORES = ["DINO", "CLIP-I", "CLIP-T", "identity", "oracle"]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def tables(text: str, head: list[str]) -> list[dict[str, list[str]]]:
    """Every table with this head: row label to the cells of its scores, without bold and escapes."""
    lines = [re.sub(r"\*\*|\\", "", line) for line in text.splitlines()]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None for line in lines]
    found = []
    for i, cells in enumerate(rows):
        if cells == head:
            table: dict[str, list[str]] = {}
            for row in rows[i + 2 :]:
                if row is None:
                    break
                table[row[0].removesuffix(" (floor)")] = row[-len(SCORES) :]
            found.append(table)
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_scores_are_those_of_the_report(page: str) -> None:
    shown = tables((ROOT / page).read_text(encoding="utf-8"), ["", *SCORES])[0]
    measured = tables(REPORT, ["method", "cells", *SCORES])[0]
    assert len(shown) >= 4
    assert {label: measured[label] for label in shown} == shown


@pytest.mark.parametrize("which", [0, 1], ids=["from DreamBooth", "within the adapter"])
def test_differences_are_those_of_the_report(which: int) -> None:
    shown = tables(RESULTS, ["", *SCORES])[1 + which]
    measured = tables(REPORT, ["method", "pairs", *SCORES])[which]
    assert shown.keys() == measured.keys()
    for label, cells in shown.items():
        assert cells == [re.sub(r", [+−][\d.]+%", "", cell) for cell in measured[label]], label


def test_differences_of_every_other_table_are_in_the_report() -> None:
    """All but those against Look Forward, which the report has no table of."""
    interval = r"[+−]\d\.\d{3} \[[+−]\d\.\d{3}, [+−]\d\.\d{3}\]"
    rows = [
        line for line in RESULTS.splitlines() if line.startswith("|") and not line.startswith("| Look Forward | +0.1")
    ]
    shown = re.findall(interval, "\n".join(rows))
    assert len(shown) > 70
    assert set(shown) <= set(re.findall(interval, REPORT.replace("\\", "")))


def test_the_report_is_that_of_the_archived_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of version 0.1, with its names of settings and kinds of prompts."""
    for name in ("fidelity_plots", "curve_plots"):
        monkeypatch.setattr(f"lookforward.report.page_sections.{name}", lambda *_: [])
    with tarfile.open(ROOT / "docs" / "results" / "benchmark.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    benchmark = read_benchmark(tmp_path / "benchmark", "Toybox, test subjects")
    assert len(benchmark.cells) == len(benchmark.planned) == 140
    _, markdown = write_report(benchmark, tmp_path / "benchmark.html", "lookforward")
    lines = [line for line in markdown.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert lines == [line for line in REPORT.splitlines() if line.startswith("| ")]
