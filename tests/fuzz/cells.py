"""A benchmark's folder: `benchmark.json`, its cells, one that failed, a subject's card, and a judge's ratings."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from fake_cells import FakeRunner, fake_plan, finish
from fuzz.common import NoInput, as_json, attempt, place
from lookforward.benchmark.cell import finished_cell, require_same_model
from lookforward.benchmark.description import write_description
from lookforward.benchmark.reading import read_benchmark
from lookforward.benchmark.runner import prepare
from lookforward.bundle import CARD
from lookforward.errors import LookforwardError
from lookforward.report.render import markdown_page, report_sections
from lookforward.seals import sealed_json

KEY = ("dog6", "dino", 0)
STEM = "dog6.dino.0"


@cache
def grid() -> tuple[Any, Path]:
    """A plan and its finished folder."""
    base = place() / "grid"
    plan = fake_plan(place() / "subjects", seeds=1)
    prepare(plan, base)
    finish(plan, base, FakeRunner(place() / "ledger"))
    return plan, base


def _folder(given: dict[str, Any]) -> Path:
    """The folder with what an input says; what it leaves out is as it was."""
    _, base = grid()
    files = {"benchmark": "benchmark.json", "cell": f"cells/{STEM}.json", "failed": f"failed/{STEM}.json"}
    files |= {"card": f"photos/dog6/{CARD}", "other": "cells/other.json", "ratings": "ratings.json"}
    folder = place() / "changed"
    if not folder.exists():
        shutil.copytree(base, folder)
    for name, file in files.items():
        path = folder / file
        path.unlink(missing_ok=True)
        if name in given:
            path.parent.mkdir(parents=True, exist_ok=True)
            table = isinstance(given[name], dict) and given[name]
            path.write_text(sealed_json(given[name]) if table else json.dumps(given[name]))
        elif (base / file).is_file():
            shutil.copy(base / file, path)
    return folder


def _given(data: bytes) -> dict[str, Any]:
    given = as_json(data)
    if not isinstance(given, dict):
        raise NoInput
    return given


def report(data: bytes) -> None:
    """What a report reads."""
    benchmark = read_benchmark(_folder(_given(data)))
    assert len(benchmark.missing) <= len(benchmark.planned)


def page(data: bytes) -> None:
    """The page that a report makes of it, which takes longer."""
    markdown_page("Report", report_sections(read_benchmark(_folder(_given(data)))), "")


def again(data: bytes) -> None:
    """What a benchmark reads that goes on in the folder."""
    plan, folder = grid()[0], _folder(_given(data))
    refused = None
    for work in (
        lambda: finished_cell(plan, folder, KEY),
        lambda: require_same_model(folder, "abc"),
        lambda: write_description(plan, folder, "toybox"),
    ):
        try:
            work()
        except LookforwardError as error:
            refused = error
    if refused:
        raise refused


READERS = (report, again, page)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
