"""The figures in README and docs/results.md are those of the benchmark's own report."""

import re
from pathlib import Path

import pytest

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
