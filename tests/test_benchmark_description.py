"""benchmark.json keeps what all calls into a folder asked for, and refuses what would mix."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from errors import raises
from fake_cells import FakeRunner, fake_plan, finish
from lookforward.benchmark.description import grids, write_description
from lookforward.benchmark.methods import grid_methods
from lookforward.benchmark.plan import Plan, Scoring
from lookforward.benchmark.runner import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return fake_plan(tmp_path / "set", 1)


def run(plan: Plan, folder: Path, model: str = "toybox") -> dict[str, Any]:
    prepare(plan, folder)
    write_description(plan, folder, model)
    finish(plan, folder, FakeRunner(folder / "ledger.txt"))
    return json.loads((folder / "benchmark.json").read_text())


def test_later_calls_add_to_what_was_asked_for(plan: Plan, folder: Path) -> None:
    first = run(replace(plan, subjects=("dog6",)), folder)
    assert grids(first) == [{"subjects": ["dog6"], "methods": ["untouched", "dreambooth", "dino"], "seeds": [0]}]
    (folder / "benchmark.json").write_text(json.dumps({k: v for k, v in first.items() if k != "grids"}))  # of before
    lora = grid_methods(("dreambooth@lora",), (), {"run.steps": 20})
    second = run(replace(plan, subjects=("dog6",), methods=lora, seeds=(0, 1)), folder)
    assert [grid["seeds"] for grid in grids(second)] == [[0], [0, 1]]
    assert {m["name"] for m in second["methods"]} == {"untouched", "dreambooth", "dino", "dreambooth@lora"}
    assert (second["seeds"], second["date"]) == ([0, 1], first["date"])
    assert run(replace(plan, subjects=("dog6",)), folder)["grids"] == second["grids"]  # asked for before
    all_of_it = run(replace(plan, methods={**plan.methods, **lora}, seeds=(0, 1)), folder)
    assert len(grids(all_of_it)) == 1
    assert [s["name"] for s in all_of_it["subjects"]] == ["dog6", "old_vase"]


@pytest.mark.parametrize(
    ("other", "model", "fact"),
    [
        ({}, "some/model", "base model"),
        ({"images": 3}, "toybox", "number of images"),
        ({"count": 1}, "toybox", "number of prompts"),
        ({"scoring": Scoring(identifier_in_clip_text=True)}, "toybox", "text of CLIP-T"),
        ({"scoring": Scoring(dino="some/dino")}, "toybox", "encoders of the scores"),
        ({"methods": grid_methods(("dino",), ("full",), {"run.steps": 300})}, "toybox", "dino with other settings"),
    ],
)
def test_other_subjects_measured_otherwise_are_not_taken_in(
    plan: Plan, folder: Path, other: dict[str, Any], model: str, fact: str
) -> None:
    """No cell of theirs is there yet, so that only the description can tell."""
    kept = json.dumps(run(replace(plan, subjects=("dog6",)), folder))
    changed = replace(plan, subjects=("old_vase",), **other)
    if "methods" in other:
        changed = replace(changed, methods={"dino": other["methods"]["dino"]})
    with raises("benchmark-differs", folder, fact):
        write_description(changed, folder, model)
    assert json.dumps(json.loads((folder / "benchmark.json").read_text())) == kept
    for path in (folder / "cells").iterdir():
        path.unlink()
    write_description(changed, folder, model)  # nothing is there that could be mixed


def test_extra_scores_may_stand_in_any_order(plan: Plan, folder: Path) -> None:
    described = run(replace(plan, scoring=Scoring(extra=("dreamsim", "dinov2"))), folder)
    described["extra_scores"] = ["dreamsim", "dinov2"]  # as older versions wrote it
    (folder / "benchmark.json").write_text(json.dumps(described))
    assert run(replace(plan, scoring=Scoring(extra=("dinov2", "dreamsim"))), folder)["grids"] == described["grids"]


def test_a_broken_description_is_written_anew(plan: Plan, folder: Path) -> None:
    run(plan, folder)
    for text in ("{", "[]", '{"subjects": 3}'):
        (folder / "benchmark.json").write_text(text)
        assert len(run(plan, folder)["grids"]) == 1
