"""The grid below `compare` and `ablate`: what a cell draws, that cells leave nothing behind, and their tables."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from conftest import make_pipeline
from errors import raises
from lookforward.assembly import Evaluators, check_extra_scores
from lookforward.benchmark import cell_runner
from lookforward.benchmark.cell import Cell, finished_cell, non_finite_scores, read_strip, write_cell
from lookforward.benchmark.cell_runner import ModelSource
from lookforward.benchmark.dataframes import planned_benchmark
from lookforward.benchmark.description import write_description
from lookforward.benchmark.estimate import estimate
from lookforward.benchmark.executors import InProcess
from lookforward.benchmark.methods import grid_methods
from lookforward.benchmark.optimised import optimised_of
from lookforward.benchmark.plan import Plan, Scoring, cell_name
from lookforward.benchmark.reading import read_benchmark
from lookforward.benchmark.runner import prepare, run_grid
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.models.encoders import Encoders
from lookforward.models.families.sd import SD
from lookforward.report.aggregate import difference
from lookforward.report.aggregate import estimate as estimate_score
from lookforward.report.page_sections import cost_table
from lookforward.report.render import write_report
from lookforward_toybox.comparisons.ablations import ABLATIONS, plan_ablation
from lookforward_toybox.comparisons.commands import run_cells
from lookforward_toybox.comparisons.pages import ablation_sheet, write_comparison
from tiny_rewards import save_clip, save_vit

TINY = {
    "data.resolution": 32, "run.steps": 2, "data.class_images": 2, "data.class_image_steps": 1,
    "evaluation.sampler_steps": 1, "optimizer.learning_rate": 0.01,
}  # fmt: skip
Run = Callable[..., list[Cell]]
PROMPTS = ("a {identifier} {class_noun} in the snow", "a {identifier} {class_noun} on the beach")


@pytest.fixture
def pipeline() -> StableDiffusionPipeline:
    made = make_pipeline()
    SD.set_sampler(made)
    return made


@pytest.fixture(scope="module")
def evaluators(tmp_path_factory: pytest.TempPathFactory) -> Evaluators:
    folder = tmp_path_factory.mktemp("evaluators")
    return Evaluators(Encoders({"dino": str(save_vit(folder / "dino")), "clip": str(save_clip(folder / "clip"))}))


def plan_of(*methods: str, subjects: Sequence[str] = ("vase-0",), seeds: int = 1) -> Plan:
    known = grid_methods(methods, ("full",), TINY)
    return Plan(tuple(subjects), known, tuple(range(seeds)), PROMPTS, images=2)


@pytest.fixture
def run(
    pipeline: StableDiffusionPipeline, evaluators: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Cell]]:
    """Run a plan in a folder, on the tiny model and encoders or others; all its cells must finish."""

    def run(
        plan: Plan, folder: Path, model: StableDiffusionPipeline = pipeline, scored_by: Evaluators = evaluators
    ) -> list[Cell]:
        monkeypatch.setattr("lookforward.benchmark.cell_runner.build_pipeline", lambda *_: model)
        monkeypatch.setattr("lookforward.benchmark.cell_runner.build_evaluators", lambda *_, **__: scored_by)
        prepare(plan, folder)
        outcomes = list(run_grid(plan, folder, InProcess(plan, folder, ModelSource("toybox", folder).load)))
        assert not [outcome.message for outcome in outcomes if outcome.message]
        return [outcome.cell for outcome in outcomes if outcome.cell]

    return run


def weights_of(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    modules = {"unet": pipeline.unet, "text": pipeline.text_encoder, "vae": pipeline.vae}
    return {f"{n}.{k}": v.clone() for n, module in modules.items() for k, v in module.state_dict().items()}


def test_a_cell_does_not_depend_on_those_before_it(tmp_path: Path, pipeline: StableDiffusionPipeline, run: Run) -> None:
    before = weights_of(pipeline)
    many = plan_of("dreambooth", "look-forward", "dreambooth@lora", "dreambooth@custom-diffusion")
    cells = {cell.method: cell for cell in run(many, tmp_path / "many")}
    after = weights_of(pipeline)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for method in ("look-forward", "dreambooth@lora"):
        alone = plan_of(method)
        _, cell = run(alone, tmp_path / method)
        assert cell.scores == cells[method].scores
    assert len({cells[method].scores["DINO"][0] for method in cells}) == len(cells)  # something was trained


def test_cells_of_other_weights_are_not_mixed(tmp_path: Path, pipeline: StableDiffusionPipeline, run: Run) -> None:
    made, *_ = run(plan_of("dreambooth"), tmp_path)
    other = make_pipeline(5)
    with raises("model-weights-differ", "vase-0.dreambooth.0", model_hash(pipeline), model_hash(other), "--output"):
        run(plan_of("look-forward"), tmp_path, other)
    assert made.provenance["model_hash"] == model_hash(pipeline) != model_hash(other)
    for path in (tmp_path / "cells").iterdir():  # as cells of before it was written down
        path.write_text(path.read_text().replace(made.provenance["model_hash"], ""))
    assert len(run(plan_of("look-forward"), tmp_path, other)) == 2


def test_every_method_is_asked_alike_but_for_the_word(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], list[int]]] = []
    drawn = cell_runner.draw_images

    def note(pipeline: Any, prompts: list[str], seeds: list[int], **settings: Any) -> np.ndarray:
        asked.append((prompts, list(seeds)))
        return drawn(pipeline, prompts, seeds, **settings)

    monkeypatch.setattr(cell_runner, "draw_images", note)
    run(plan_of("dreambooth", "dreambooth@lora", seeds=2), tmp_path)
    (untouched, *trained), later = asked[:3], asked[3:]
    words = ["in the snow", "in the snow", "on the beach", "on the beach"]
    assert untouched == ([f"a vase {where}" for where in words], [10_000, 10_001, 10_002, 10_003])
    assert trained == 2 * [([f"a sks vase {where}" for where in words], untouched[1])]
    assert [prompts for prompts, _ in later] == [prompts for prompts, _ in asked[:3]]
    assert {tuple(seeds) for _, seeds in later} == {(20_000, 20_001, 20_002, 20_003)}


def cell(subject: str, method: str, seed: int, score: float) -> Cell:
    """A mean of `score` over two images."""
    settings = {"config": {}, "prompts": [PROMPTS[0]], "images": 2}
    return Cell(subject, method, seed, {"DINO": [score - 0.1, score + 0.1]}, 60.0, 512.0, settings=settings)


def test_tables_have_means_over_subjects_and_paired_differences() -> None:
    gains = {"vase-0": 0.1, "cat-0": 0.2, "dog-0": 0.3}
    base = {"vase-0": 0.1, "cat-0": 0.5, "dog-0": 0.9}
    cells = [
        cell(subject, method, seed, base[subject] + seed * 0.01 + (gains[subject] if method == "best" else 0.0))
        for subject in gains for seed in (0, 1) for method in ("dreambooth", "best")
    ]  # fmt: skip
    plan = plan_of("dreambooth", "best", subjects=tuple(gains), seeds=2)
    benchmark = planned_benchmark(plan, cells)
    means = {name: estimate_score(benchmark.images_of(name), "DINO") for name in ("dreambooth", "best")}
    assert [found and found.mean for found in means.values()] == pytest.approx([0.505, 0.705])
    assert cost_table(benchmark).rows[0][1] == "60.0"
    found = difference(benchmark, "best", "DINO")
    assert found is not None
    # Student's: three subjects whose gains are 0.1, 0.2 and 0.3, however far apart the subjects are
    assert found.interval.mean == pytest.approx(0.2)
    assert found.interval.half_width == pytest.approx(4.3027 * 0.1 / math.sqrt(3), abs=1e-4)
    assert found.pairs == 6
    without = difference(planned_benchmark(plan, cells[1:]), "best", "DINO")  # one cell has lost its partner
    assert without is not None
    assert without.pairs == 5
    assert without.interval.mean == pytest.approx(0.2)


def flat(value: int, count: int) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), value + 10 * i, np.uint8) for i in range(count)])


@pytest.mark.parametrize("subjects", [("vase-0",), ("vase-0", "cat-0")])
def test_a_sheet_shows_what_it_says(subjects: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("dreambooth", subjects=subjects)
    (tmp_path / "cells").mkdir()
    (tmp_path / "images").mkdir()
    cells = []
    for i, subject in enumerate(subjects):
        for j, method in enumerate(plan.methods):
            settings = {"config": {}, "prompts": list(PROMPTS), "images": 2}
            scores = {"DINO": [0.5 + 0.1 * j] * 4}
            cells.append(Cell(subject, method, 0, scores, 60.0, 512.0, settings=settings))
            write_cell(tmp_path, cells[-1], flat(100 * j + 50 * i, 4))  # 2 prompts × 2 images, 10 apart
    shown: dict[str, Any] = {}

    def note(columns: Any, rows: Any, **more: Any) -> Any:
        shown.update(columns=columns, rows=rows)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("lookforward_toybox.comparisons.pages.comparison_sheet", note)
    write_comparison(cells, plan, tmp_path)
    values = {name: [int(image[0, 0, 0]) for image in images] for name, images in shown["columns"].items()}
    if len(subjects) == 1:  # all prompts of one: the first image of each
        assert shown["rows"] == ["a sks vase in the snow", "a sks vase on the beach"]
        assert {k: v for k, v in values.items() if k != "references"} == {
            "untouched model": [0, 20], "DreamBooth": [100, 120],
        }  # fmt: skip
        assert len(values["references"]) == 3
        assert "Difference from DreamBooth" not in (tmp_path / "table.md").read_text()
    else:  # prompts in turn
        assert shown["rows"] == ["a sks vase in the snow", "a sks cat on the beach"]
        assert {k: v for k, v in values.items() if k != "reference"} == {
            "untouched model": [0, 70], "DreamBooth": [100, 170],
        }  # fmt: skip
        assert "| untouched model | 2 | −0.100 \\[−0.100, −0.100\\], −16.7% |" in (tmp_path / "table.md").read_text()
    assert re.search(r"\| DreamBooth \| \d \| \*\*0.600", (tmp_path / "table.md").read_text())
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 4 * len(cells)


@pytest.mark.parametrize(
    ("adapters", "given", "called"),
    [
        (("full", "lora"), {"subject.identifier": "zwx"}, "a zwx vase in"),
        (("full", "textual-inversion"), {}, "a vase in"),
    ],
)
def test_a_sheet_calls_the_subject_as_all_methods_do(
    adapters: tuple[str, ...], given: dict[str, Any], called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(("vase-0",), grid_methods(("dreambooth",), adapters, TINY | given), (0,), PROMPTS, images=1)
    (tmp_path / "cells").mkdir()
    (tmp_path / "images").mkdir()
    cells = [cell("vase-0", method, 0, 0.5) for method in plan.methods]
    for one in cells:
        write_cell(tmp_path, one, flat(0, 2))
    said: list[str] = []

    def note(columns: Any, rows: Any, **more: Any) -> Any:
        said.extend(rows)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("lookforward_toybox.comparisons.pages.comparison_sheet", note)
    write_comparison(cells, plan, tmp_path)
    assert said[0].startswith(called)


def test_the_sheet_of_an_ablation_shows_each_value_in_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_ablation(ABLATIONS["discount"], ["vase-0"], [0], {}, images=2, count=3)
    (tmp_path / "cells").mkdir()
    (tmp_path / "images").mkdir()
    for j, method in enumerate(plan.methods):
        write_cell(tmp_path, cell("vase-0", method, 0, 0.5), flat(60 * j, 6))
    shown: dict[str, Any] = {}
    monkeypatch.setattr(
        "lookforward_toybox.comparisons.pages.comparison_sheet", lambda columns, rows, **_: shown.update(columns)
    )
    ablation_sheet(plan, ABLATIONS["discount"], tmp_path)
    values = {name: [int(image[0, 0, 0]) for image in images] for name, images in shown.items()}
    prompts = plan.prompts_of("vase-0")
    assert not prompts[0].endswith("floating on top of water")
    assert {name: sorted(column) for name, column in values.items() if name != "references"} == {
        f"γ = {value}": [60 * j, 60 * j + 20, 60 * j + 40] for j, value in enumerate(("1", "0.9986", "0.99", "0.9"))
    }


def test_a_score_that_is_no_number_is_not_finished(tmp_path: Path) -> None:
    plan = plan_of("dreambooth")
    (tmp_path / "cells").mkdir()
    (tmp_path / "images").mkdir()
    key = ("vase-0", "dreambooth", 0)
    good, bad = (
        Cell(*key, {"DINO": [0.5, score]}, 1.0, 1.0, settings=plan.settings_of(key)) for score in (0.5, math.nan)
    )
    assert non_finite_scores(bad) == {"DINO": 1}
    write_cell(tmp_path, bad, flat(0, 4))
    assert finished_cell(plan, tmp_path, key) is None
    write_cell(tmp_path, good, flat(0, 4))
    assert finished_cell(plan, tmp_path, key) == good


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model.name": "some/model"}, ("grid-model", "--model")),
        ({"model.device": "cpu"}, ("grid-device", "CUDA_VISIBLE_DEVICES")),
    ],
)
def test_a_grid_does_not_take_another_model_or_device(
    settings: dict[str, Any], problem: tuple[str, str], tmp_path: Path
) -> None:
    with raises(*problem):
        grid_methods(("dreambooth",), ("full",), settings)
    with raises(*problem):
        plan_ablation(ABLATIONS["discount"], ["vase-0"], [0], settings)
    recipe = tmp_path / "mine.toml"
    recipe.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    with raises(*problem):
        grid_methods((str(recipe),), ("full",), {})
    chosen = grid_methods(("dreambooth",), ("full",), {}, model="some/model")
    assert {overrides["model.name"] for _, overrides in chosen.values()} == {"some/model"}


def test_a_score_of_ones_own_is_taken_and_marked(
    tmp_path: Path, run: Run, evaluators: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_of_test_grid.py").write_text(
        "def red(images, prompts):\n"
        "    assert 'vase' in prompts[0] and 'sks' not in prompts[0]\n"
        "    return images[:, 0].mean(dim=(1, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    name = "mine_of_test_grid:red"
    check_extra_scores((name,), 1)
    with pytest.raises(LookforwardError, match="no_such"):
        check_extra_scores(("no_such:f",), 1)
    own = replace(evaluators, extra=(name,))
    methods = grid_methods(("dreambooth", "state-action"), ("full",), {**TINY, "objective.reward": name})
    plan = Plan(("vase-0",), methods, (0,), PROMPTS, images=2, scoring=Scoring(extra=(name,)))
    cells = run(plan, tmp_path / "out", scored_by=own)
    for one in cells:
        drawn = read_strip(tmp_path / "out", cell_name(one.key))
        np.testing.assert_allclose(one.scores[name], drawn[..., 0].mean(axis=(1, 2)) / 255, atol=1e-5)
    assert optimised_of(plan) == {"untouched": (), "dreambooth": (), "state-action": (name,)}
    write_comparison(cells, plan, tmp_path / "out")
    assert f"| {name} |" in (tmp_path / "out" / "table.md").read_text().replace("\\", "")
    write_description(plan, tmp_path / "out", "toybox")
    page = read_benchmark(tmp_path / "out")
    assert not page.problems
    write_report(page, tmp_path / "out" / "page.html", "lookforward")
    assert name in (tmp_path / "out" / "page.md").read_text().replace("\\", "")


def test_scored_steps_are_those_of_a_shorter_training_and_disturb_nothing(tmp_path: Path, run: Run) -> None:
    def cell(steps: int, *scored: int, **settings: Any) -> Cell:
        methods = grid_methods(("look-forward",), ("full",), {**TINY, "run.steps": steps, **settings})
        plan = Plan(("vase-0",), methods, (0,), PROMPTS, images=2, scoring=Scoring(steps=scored))
        return run(plan, tmp_path / f"{steps}-{scored}-{len(settings)}")[1]

    long, short = cell(4), cell(2)
    watched = cell(4, 2, 4, **{"evaluation.every": 2, "evaluation.images": 2, "evaluation.identity_weight": 0.4})
    assert {name: curve for name, curve in watched.curves.items() if "validation" not in name} == long.curves
    assert watched.steps == {"2": short.scores, "4": long.scores}
    assert short.scores != long.scores
    assert watched.scores in watched.steps.values()  # the best of the measured steps
    assert [step for step, _ in watched.curves["validation/total"]] == [0, 2, 4]
    assert long.settings.keys() == watched.settings.keys() - {"scored_steps"}
    assert watched.settings["scored_steps"] == [2, 4]


def test_the_memory_of_a_plan_is_that_of_what_is_trained(tmp_path: Path) -> None:
    whole, parts = (
        estimate(Plan(("vase-0",), grid_methods(recipes, ("full",), {}, "some/model"), (0,)), tmp_path, "some/model")
        for recipes in (("look-forward", "look-forward@lora"), ("look-forward@lora",))
    )
    assert parts.memory < 0.5 * whole.memory
    assert parts.scratch < 0.5 * whole.scratch


def test_methods_of_one_label_are_refused(tmp_path: Path) -> None:
    (tmp_path / "DreamBooth.toml").write_text("run.steps = 3\n")
    with raises("method-name-twice", "DreamBooth"):
        grid_methods(("dreambooth", str(tmp_path / "DreamBooth.toml")), ("full",), {})


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises("not-writable", tmp_path / "file"):
        prepare(plan_of("dreambooth"), tmp_path / "file")


def test_compare_stops_at_a_cell_that_fails(
    tmp_path: Path, pipeline: StableDiffusionPipeline, evaluators: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any, **__: Any) -> Any:
        raise LookforwardError("Step 3: the loss is nan.")

    monkeypatch.setattr(cell_runner, "train", diverge)
    monkeypatch.setattr("lookforward.benchmark.cell_runner.build_pipeline", lambda *_: pipeline)
    monkeypatch.setattr("lookforward.benchmark.cell_runner.build_evaluators", lambda *_, **__: evaluators)
    with raises("cell-failed", "vase-0, dreambooth, seed 0", "Step 3"):
        run_cells(plan_of("dreambooth"), tmp_path / "out")
