"""The evidence: its parts can run, go on and be packed; the step that --until-best chooses; a published cell again."""

import importlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import raises
from lookforward.benchmark.cell import Cell
from lookforward.benchmark.recorded import full_settings
from lookforward.bundle import known_model
from lookforward.cli import main
from lookforward.config.recipe import load_settings, until_best
from lookforward.runs.step_choice import Evaluation

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "docs" / "results" / "benchmark.tar.xz"
MEASURED = (30, 60, 90, 120, 150, 180, 210, 240, 270, 300)
STEPS = (*MEASURED, 100)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "evidence"))
    return importlib.import_module


@pytest.fixture
def part(evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    parts = evidence("parts")
    monkeypatch.setattr(parts, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(parts, "HERE", tmp_path)
    return parts.Part("small", "a part", (parts.Grid(("dreambooth",)),), "small")


def test_every_part_has_the_cells_that_it_says(evidence: Any) -> None:
    parts, run = evidence("parts"), evidence("run")
    assert set(parts.part_names()) == {
        "toybox-sd", "default", "default-online", "chosen-step", "chosen-step-sd", "steadiness", "dino-for-less",
    }  # fmt: skip
    counts = {}
    for name in parts.part_names():
        part = parts.read_part(name)
        models = [known_model(grid.model) for grid in part.grids]
        if all(model and model.present for model in models):
            counts[name] = len({key for grid in part.grids for key in run.plan_of(grid).cells()})
    assert counts["toybox-sd"] == 20 * (5 * 3 + 5 * 2)  # with the untouched model
    assert counts["chosen-step-sd"] == 20 * 4 * 2
    assert counts["dino-for-less"] == 5 * 5 * 2
    assert counts["steadiness"] == 5 * 4 * 2


@pytest.mark.parametrize("part", ["chosen-step", "chosen-step-sd"])
def test_the_chosen_step_is_scored_wherever_until_best_may_end(evidence: Any, part: str) -> None:
    (grid,) = evidence("parts").read_part(part).grids
    for recipe in grid.recipes:
        asked = until_best(load_settings(recipe, {"model.name": grid.model}), {})
        run = load_settings(recipe, {"model.name": grid.model, **grid.settings})
        assert (run.run.steps, run.evaluation.every) == (asked.run.steps, asked.evaluation.every)
        assert asked.evaluation.patience == evidence("chosen").PATIENCE
        assert run.evaluation.patience == 0
        measured = {*range(run.evaluation.every, 901, run.evaluation.every), 300, 900}
        assert set(grid.scored_steps) == measured


def test_a_step_that_no_training_reaches_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "--model", "toybox-sd", "--recipes", "dreambooth", "--plan", "--output", str(tmp_path)]
    with pytest.raises(SystemExit):
        main([*words, "--scored-steps", "100", "301"])
    assert "--scored-steps 301" in capsys.readouterr().err
    main([*words, "--scored-steps", "100", "300"])
    assert "40 cells" in capsys.readouterr().out


def test_unknown_parts_and_settings_are_refused(evidence: Any, tmp_path: Path) -> None:
    parts = evidence("parts")
    with pytest.raises(SystemExit, match="toybox-sd"):
        parts.read_part("toybox")
    (tmp_path / "wrong.toml").write_text('about = "x"\n\n[[grid]]\nrecipes = ["best"]\nseed = 3\n')
    with pytest.raises(ValueError, match="seed"):
        parts.read_part("wrong", tmp_path)


def test_a_part_goes_on_while_cells_finish_and_stops_where_none_does(
    evidence: Any, part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = evidence("run"), []

    def failing(words: list[str]) -> Any:
        calls.append(words)
        if len(calls) in (2, 4):  # a cell was finished before it failed
            (part.output / "cells").mkdir(parents=True, exist_ok=True)
            (part.output / "cells" / f"{len(calls)}.json").write_text("{}")
        return subprocess.CompletedProcess(words, 3)

    monkeypatch.setattr(run.subprocess, "run", failing)
    with pytest.raises(SystemExit, match="3 calls in a row"):
        run.run(part, 1, pause=0)
    assert len(calls) == 4 + 3
    assert calls[0][-2:] == ["--output", str(part.output)]
    monkeypatch.setattr(run.subprocess, "run", lambda words: subprocess.CompletedProcess(words, 0))
    run.run(part, 1, pause=0)


def test_packed_cells_are_the_same_bytes_and_come_back(evidence: Any, part: Any) -> None:
    run = evidence("run")
    (part.output / "cells").mkdir(parents=True)
    for i in range(3):
        (part.output / "cells" / f"a.b.{i}.json").write_text(f'{{"cell": {i}}}')
    (part.output / "cells" / ".partial-a.b.3.json").write_text("half a ce")
    (part.output / "benchmark.json").write_text("{}")
    run.pack(part)
    first = part.packed.read_bytes()
    (part.output / "cells" / "a.b.0.json").touch()
    run.pack(part)
    assert part.packed.read_bytes() == first
    (part.output / "cells" / "a.b.0.json").unlink()
    (part.output / "cells" / "a.b.1.json").write_text("run since")
    run.unpack(part)
    assert {path.name: path.read_text() for path in (part.output / "cells").glob("[!.]*.json")} == {
        "a.b.0.json": '{"cell": 0}',
        "a.b.1.json": "run since",
        "a.b.2.json": '{"cell": 2}',
    }


def rows(*totals: float) -> list[Evaluation]:
    return [Evaluation(10 * i, total, total, 0.0) for i, total in enumerate(totals)]


@pytest.mark.parametrize(
    ("totals", "step", "stopped"),
    [
        ((0.0, 0.2, 0.4, 0.6, 0.7), 40, 40),  # it rises to the end
        ((0.0, 0.2, 0.6, 0.7, 0.6, 0.3, 0.2, 0.9, 0.9), 30, 60),  # three later without a gain: the rise is not seen
        ((0.0, 0.5, 0.5, 0.5, 0.5, 0.5), 10, 40),  # the earliest of equals
    ],
)
def test_where_until_best_stops_and_what_it_chooses(
    evidence: Any, totals: tuple[float, ...], step: int, stopped: int
) -> None:
    assert evidence("chosen").until_best(rows(*totals)) == (step, stopped)


def test_measurements_within_a_warmup_do_not_stop_a_run(evidence: Any) -> None:
    flat = rows(0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert evidence("chosen").until_best(flat, warmup=20) == (10, 60)


def made_cell(seed: int, subject: str, level: Any, noise: float, images: int = 20) -> Cell:
    """A training whose identity is `level(step)` and noise of each image."""
    rng = np.random.default_rng([seed, *subject.encode()])
    scores = {
        str(step): {
            name: (level(step) + noise * rng.standard_normal(images)).tolist() for name in ("identity", "CLIP-T")
        }
        for step in STEPS
    }
    curve = [[step, level(step)] for step in (0, *MEASURED)]
    config = load_settings("look-forward", {"run.steps": 300}).flat() | {"run.recipe": ""}
    return Cell(
        subject, "look-forward", seed, scores["300"], 90.0, 0.0, curves={"validation/total": curve},
        settings={"config": config}, steps=scores,
    )  # fmt: skip


def test_hindsight_is_not_flattered_by_its_own_noise(evidence: Any) -> None:
    chosen = evidence("chosen")
    cells = [made_cell(seed, f"vase-{i}", lambda step: 0.5 if step else 0.0, 1.0) for i in range(20) for seed in (0, 1)]
    found = [chosen.results_of(cell)["hindsight"].scores["identity"] for cell in cells]
    highest = [max(np.mean(one["identity"]) for one in cell.steps.values()) for cell in cells]
    assert np.mean(highest) > 0.75  # the plain maximum
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_the_deviation_within_a_run_is_that_of_its_steps(evidence: Any) -> None:
    def swing(step: int) -> float:
        return 0.5 + 0.1 * (step // 30 % 2)  # half of the measured steps 0.1 above the others

    cells = [made_cell(seed, "vase-0", swing, 0.0) for seed in (0, 1)]
    cells = [replace(cell, steps={str(step): cell.steps[str(step)] for step in MEASURED}) for cell in cells]
    found = evidence("steadiness").within_runs(cells, "identity")
    assert found == pytest.approx(np.std([0.5, 0.6] * 5, ddof=1))
    assert "| Look Forward | 2 |" in evidence("steadiness").table(cells)


def test_the_table_compares_the_chosen_step_with_each_other(evidence: Any) -> None:
    chosen = evidence("chosen")

    def peak(step: int) -> float:
        return 0.8 - abs(step - 120) / 300 if step else 0.0

    cells = [made_cell(seed, f"vase-{i}", peak, 0.01) for i in range(3) for seed in (0, 1)]
    one = chosen.results_of(cells[0])
    assert (one["chosen"].step, one["chosen"].taken, one["chosen"].seconds) == (120, 210, pytest.approx(63.0))
    assert one["last of 100"].step == 100
    assert one["hindsight"].step == 120
    untouched = [replace(cell, method="untouched", steps={}) for cell in cells]
    shown = chosen.tables([*cells, *untouched])
    assert "## Look Forward, 6 runs" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("| last of 300 |") and "[" in line]
    assert line.split("|")[2].strip().startswith("+0.6")
    assert len([line for line in shown.splitlines() if line.startswith("| untouched model |")]) == 1
    with pytest.raises(ValueError, match="no scores of steps"):
        chosen.results_of(replace(cells[0], steps={"300": cells[0].scores}))


def test_a_published_cell_is_planned_as_it_was_run(evidence: Any) -> None:
    redo = evidence("redo")
    key = ("can-0", "look-forward", 0)
    old = redo.published(PUBLISHED, key)
    plan, model = redo.plan_of(old, "toybox", {})
    assert list(plan.cells()) == [key]
    assert known_model(model) is not None
    asked, recorded = full_settings(plan.settings_of(key)), full_settings(old.settings)
    assert {**asked, "config": {**asked["config"], "model.name": ""}} == {
        **recorded,
        "config": {**recorded["config"], "model.name": ""},
    }
    assert redo.threads_of(old) == 1
    changed, _ = redo.plan_of(old, "toybox", {"run.plain": True})
    assert changed.settings("look-forward").run.plain
    rates = [redo.nudged(plan, i).settings("look-forward").optimizer.learning_rate for i in range(3)]
    assert np.diff(rates) == pytest.approx([1.8e-10, 1.8e-10], rel=1e-3)
    others = [replace(old, scores={"DINO": [0.5 + 0.1 * i]}) for i in range(3)]
    assert "| DINO | 0.600 | 0.100 | 0.500 | 0.700 |" in redo.rounding(others)
    with raises("cell-missing", "can-9"):
        redo.published(PUBLISHED, ("can-9", "look-forward", 0))


def test_a_comparison_says_where_two_trainings_part(evidence: Any) -> None:
    redo = evidence("redo")
    old = redo.published(PUBLISHED, ("can-0", "look-forward", 0))
    drifted = {"noise_loss": [[s, v * (1 + (0.5 if s > 150 else 0))] for s, v in old.curves["noise_loss"]]}
    new = replace(old, curves=drifted, scores={**old.scores, "DINO": [value + 0.1 for value in old.scores["DINO"]]})
    shown = redo.comparison(old, new)
    assert "| DINO | 0.615 | 0.715 | +0.100 | 0.100 |" in shown
    assert "Equal: model_hash, photos_hash." in shown
    assert "0.0e+00 up to step 10" in shown
    assert "5.0e-01 up to step 300" in shown
