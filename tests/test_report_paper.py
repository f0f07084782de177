"""Which cells a report is of, what made them, and which of the paper's rows they stand for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from errors import raises
from lookforward.benchmark.reading import read_benchmark
from lookforward.config.recipe import load_settings
from lookforward.report.paper import PAPER_MODEL, departures, paper_section, row_of
from test_report_page import METHODS, PROMPTS, cell_of, write_cell, written

SETTINGS = {"run.steps": 300, **METHODS["look-forward"]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, which take most of the time."""
    for name in ("fidelity_plots", "curve_plots"):
        monkeypatch.setattr(f"lookforward.report.page_sections.{name}", lambda *_: [])


def write_plan(
    folder: Path, subjects: Sequence[str], methods: Mapping[str, Mapping[str, Any] | None], **more: Any
) -> None:
    """As `lookforward benchmark` does. methods: name to settings, None for an older file without them."""
    described = []
    for name, settings in methods.items():
        recipe, _, adapter = name.partition("@")
        one: dict[str, Any] = {"name": name, "recipe": recipe, "adapter": adapter or "full"}
        described.append(one | ({} if settings is None else {"settings": dict(settings)}))
    plan = {
        "dataset": {"name": "toybox", "kind": "toybox"}, "model": "toybox", "images": 2, "seeds": [0],
        "subjects": [{"name": s, "class_noun": s[:-2], "kind": "object", "prompts": list(PROMPTS)} for s in subjects],
        "methods": described, **more,
    }  # fmt: skip
    (folder / "benchmark.json").write_text(json.dumps(plan))


def reasons(folder: Path) -> dict[str, str]:
    return {problem.where: problem.why for problem in read_benchmark(folder).problems}


def test_only_what_was_asked_for_is_reported(tmp_path: Path) -> None:
    for subject in ("vase-0", "toy-1", "can-0", "clock-0"):
        for method in ("dreambooth", "look-forward", "text"):
            for seed in (0, 1):
                write_cell(tmp_path, subject, method, seed)
    (tmp_path / "cells" / "bowl-0.text.7.json").write_text("{")
    write_plan(tmp_path, ["vase-0", "toy-1"], {"dreambooth": None, "look-forward": None})
    benchmark, page, _ = written(tmp_path)
    assert len(benchmark.cells) == len(benchmark.planned) == 4
    assert list(benchmark.methods) == ["dreambooth", "look-forward"]
    assert "Complete: all 4 cells are finished." in page.text
    assert "20 cells in the folder are left out, as benchmark.json does not ask for them" in page.text
    assert "text" in benchmark.ignored
    assert "clock-0" in benchmark.ignored
    assert not benchmark.problems
    grids = [
        {"subjects": ["vase-0"], "methods": ["dreambooth", "look-forward"], "seeds": [0]},
        {"subjects": ["vase-0", "toy-1"], "methods": ["dreambooth"], "seeds": [0, 2]},
    ]
    write_plan(tmp_path, ["vase-0", "toy-1"], {"dreambooth": None, "look-forward": None}, grids=grids)
    benchmark = read_benchmark(tmp_path)
    assert benchmark.planned == (
        ("vase-0", "dreambooth", 0),
        ("vase-0", "look-forward", 0),
        ("vase-0", "dreambooth", 2),
        ("toy-1", "dreambooth", 0),
        ("toy-1", "dreambooth", 2),
    )
    assert {(cell.subject, cell.method) for cell in benchmark.cells.itertuples()} == {
        ("vase-0", "dreambooth"), ("vase-0", "look-forward"), ("toy-1", "dreambooth"),
    }  # fmt: skip


def test_cells_of_other_settings_are_not_averaged(tmp_path: Path) -> None:
    for subject in ("vase-0", "toy-1"):
        write_cell(tmp_path, subject, "dreambooth")
        write_cell(tmp_path, subject, "look-forward")
    write_cell(tmp_path, "can-0", "look-forward", config={"run.steps": 5})
    write_cell(tmp_path, "clock-0", "look-forward", config={"model.name": "other/model"})
    write_cell(tmp_path, "cat-0", "look-forward", prompts=PROMPTS[:2])
    write_cell(tmp_path, "dog-0", "look-forward", images=1)
    write_plan(tmp_path, ["vase-0", "toy-1", "can-0", "clock-0", "cat-0", "dog-0"], {"look-forward": SETTINGS})
    found = reasons(tmp_path)
    assert "steps 5, not 300" in found["can-0, look-forward, seed 0"]
    assert "base model other/model, not toybox" in found["clock-0, look-forward, seed 0"]
    assert "other prompts" in found["cat-0, look-forward, seed 0"]
    assert "images per prompt 1, not 2" in found["dog-0, look-forward, seed 0"]
    benchmark, page, _ = written(tmp_path, baseline="look-forward")
    assert set(benchmark.cells.subject) == {"vase-0", "toy-1"}
    assert len(benchmark.missing) == 4
    assert "cells of different settings: 4 with others than benchmark.json has" in page.text
    # The plan decides, however many cells there are of other settings
    write_plan(tmp_path, ["vase-0", "toy-1", "can-0"], {"look-forward": {**SETTINGS, "run.steps": 5}})
    assert set(read_benchmark(tmp_path).cells.subject) == {"can-0"}
    write_plan(tmp_path, ["vase-0"], {"look-forward": {**SETTINGS, "run.steps": 5}})
    with raises("no-cells", "steps 300, not 5"):
        read_benchmark(tmp_path)


def test_without_a_plan_the_larger_group_counts(tmp_path: Path) -> None:
    for subject in ("can-0", "vase-0", "toy-1"):
        write_cell(tmp_path, subject, "dreambooth", config={"run.steps": 5 if subject == "can-0" else 300})
        write_cell(tmp_path, subject, "untouched", config={"run.steps": 5 if subject == "can-0" else 300})
    benchmark, page, _ = written(tmp_path)
    assert cell_of(page.tables["Scores"], "DreamBooth", "cells") == "2"
    assert cell_of(page.tables["Scores"], "untouched model (floor)", "cells") == "3"  # it is not trained
    assert "steps 5, not 300" in page.text
    assert "The folder holds cells of different settings: 1 with others than most cells have" in page.text
    assert ("can-0", "dreambooth", 0) in benchmark.missing


def test_subjects_are_distinguished(tmp_path: Path) -> None:
    write_cell(tmp_path, "vase-0", "dreambooth")
    assert "1 development subjects (recipes were tuned on them" in read_benchmark(tmp_path).dataset
    write_cell(tmp_path, "clock-0", "dreambooth")
    write_cell(tmp_path, "mine", "dreambooth")
    dataset = read_benchmark(tmp_path).dataset
    assert "1 test subjects (no setting was chosen on them)" in dataset
    assert "1 that its world does not know" in dataset
    (tmp_path / "cells" / "vase-0.dreambooth.0.json").unlink()
    assert "development" not in read_benchmark(tmp_path).dataset


def test_versions_are_those_of_the_cells(tmp_path: Path) -> None:
    made = {
        "date": "2026-11-20T10:00:00+00:00",
        "versions": {"lookforward": "0.1.0", "torch": "2.13.0"},
        "model_hash": "a",
    }
    write_cell(tmp_path, "vase-0", "dreambooth", made=made)
    write_cell(tmp_path, "toy-1", "dreambooth")
    write_plan(tmp_path, ["vase-0", "toy-1"], {"dreambooth": None}, versions={"torch": "9.9"})
    benchmark = read_benchmark(tmp_path)
    assert benchmark.versions == "lookforward 0.1.0, torch 2.13.0; 1 of 2 cells do not record it"
    assert benchmark.when == "cells of 2026-11-20 10:00 to 2026-11-20 10:00 UTC; 1 of 2 cells do not record it"
    assert not benchmark.warnings
    later = {
        "date": "2026-11-22T12:30:00+00:00",
        "versions": {"lookforward": "0.2.0", "torch": "2.13.0"},
        "model_hash": "b",
    }
    write_cell(tmp_path, "toy-1", "dreambooth", made=later)
    benchmark, page, _ = written(tmp_path)
    assert benchmark.versions == "lookforward 0.1.0 or 0.2.0, torch 2.13.0"
    assert benchmark.when.endswith("2026-11-22 12:30 UTC")
    assert "different versions of lookforward: 0.1.0 (1 cell), 0.2.0 (1 cell)" in page.text
    assert "different weights of the base model toybox: a (1 cell), b (1 cell)" in page.text
    assert "different versions of torch" not in page.text


def test_a_row_needs_its_reward_and_its_route() -> None:
    wanted = {
        "dreambooth": "DreamBooth",
        "dino": "DreamBooth w/ DINO reward",
        "look-forward": "DreamBooth w/ Look Forward",
    }
    for recipe, name in wanted.items():
        assert row_of(recipe, load_settings(recipe, {})) == name
        custom = name.replace("DreamBooth", "Custom Diffusion")
        assert row_of(recipe, load_settings(recipe, {"adapter.name": "custom-diffusion"})) == custom
        assert row_of(recipe, load_settings(recipe, {"adapter.name": "lora"})) == ""
    spoilt: list[dict[str, Any]] = [
        {"objective.reward": "dino"}, {"objective.reward": "look-forward + dino"}, {"critic.weight": 0.0},
        {"critic.name": "none"},
        {"critic.name": "none", "objective.reward_gradient": "direct"}, {"objective.reconstruction_weight": 0.0},
        {"critic.steps": 0}, {"baseline.name": "dpok", "critic.name": "none"},
    ]  # fmt: skip
    for change in spoilt:
        settings = load_settings("look-forward", change)
        assert row_of("look-forward", settings) == "", change
    assert row_of("dreambooth", load_settings("dreambooth", {"critic.name": "residual", "critic.weight": 1.0})) == ""


def test_departures_are_from_the_paper() -> None:
    assert departures("look-forward", load_settings("look-forward", {"model.name": PAPER_MODEL})) == ()
    assert departures("dreambooth", load_settings("dreambooth", {})) == (
        "optimizer.learning_rate 0.00018 (1e-06)", "run.steps 300 (1000)", "data.resolution 64 (512)",
        "data.class_images 32 (8)",
    )  # fmt: skip
    assert departures("dino", load_settings("dino", {"model.name": PAPER_MODEL})) == (
        "critic.weight 0.5 (1)",
        "critic.bins 1 (0)",
    )


def test_one_table_by_the_kind_of_data_set(tmp_path: Path) -> None:
    model = {"model.name": PAPER_MODEL, "data.resolution": 512, "run.steps": 800}
    for subject in ("vase-0", "toy-1"):
        write_cell(tmp_path, subject, "dreambooth", config=model)
        write_cell(tmp_path, subject, "look-forward", config=model)
    methods = {"dreambooth": model, "look-forward": {**SETTINGS, **model}}
    for kind, number, other in (("dreambooth", 1, 2), ("custom-concept", 2, 1)):
        dataset = {"name": "photos", "kind": kind}
        write_plan(tmp_path, ["vase-0", "toy-1"], methods, model=PAPER_MODEL, dataset=dataset)
        _, page, _ = written(tmp_path)
        assert [name for name in page.tables if name.startswith(f"Table {number}")]
        assert not [name for name in page.tables if name.startswith(f"Table {other}")]
        assert "must not be compared" not in page.text
        assert "The model is the paper's" in page.text
        name = f"Table {number}: settings of our rows that differ from the paper's (its own in brackets)"
        assert ["DreamBooth w/ Look Forward", "run.steps 800 (1000)"] in page.tables[name]
    write_plan(
        tmp_path, ["vase-0"], methods, model=PAPER_MODEL, dataset={"name": "x", "kind": "dreambooth"}, encoders={}
    )
    encoders = {"dino": "facebook/dino-vitb8"}
    for method in ("dreambooth", "look-forward"):
        write_cell(tmp_path, "vase-0", method, config=model, settings=encoders)
    write_plan(
        tmp_path, ["vase-0"], methods, model=PAPER_MODEL, dataset={"name": "x", "kind": "dreambooth"}, encoders=encoders
    )
    assert "must not be compared by value: the encoders differ" in written(tmp_path)[1].text
    (tmp_path / "benchmark.json").unlink()
    unknown = paper_section(read_benchmark(tmp_path))
    assert len(unknown.blocks) == 1  # that the data set is not known
