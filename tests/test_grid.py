"""The grid below `compare` and `ablate`: what a cell draws, that cells leave nothing behind, and their summary."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from conftest import make_pipeline
from lookforward.assembly import Evaluators, check_extra_scores, model_hash
from lookforward.benchmark import grid
from lookforward.benchmark.ablation import ABLATIONS, ablation_sheet, plan_ablation
from lookforward.benchmark.ablation.learning import mean_and_error
from lookforward.benchmark.cell import Cell, cell_images, finished_cell, unknown_scores, write_cell
from lookforward.benchmark.description import write_description
from lookforward.benchmark.estimate import estimate
from lookforward.benchmark.grid import run_grid
from lookforward.benchmark.methods import grid_methods
from lookforward.benchmark.plan import Plan, Scoring
from lookforward.benchmark.report import read_benchmark
from lookforward.benchmark.summary import differences, optimised_of, summarise, write_summary
from lookforward.errors import LookforwardError
from lookforward.models.encoders import Encoders
from lookforward.models.families.sd import SD
from lookforward.report.page import write_report
from tiny_rewards import save_clip, save_vit

TINY = {
    "data.resolution": 32, "run.steps": 2, "data.class_images": 2, "data.class_image_steps": 1,
    "evaluation.sampler_steps": 1, "optimizer.learning_rate": 0.01,
}  # fmt: skip
PROMPTS = ("a {identifier} {class_noun} in the snow", "a {identifier} {class_noun} on the beach")


@pytest.fixture
def pipeline() -> StableDiffusionPipeline:
    made = make_pipeline()
    SD.set_sampler(made)
    return made


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Evaluators:
    folder = tmp_path_factory.mktemp("judges")
    return Evaluators(Encoders({"dino": str(save_vit(folder / "dino")), "clip": str(save_clip(folder / "clip"))}))


def plan_of(*methods: str, subjects: Sequence[str] = ("vase-0",), seeds: int = 1) -> Plan:
    known = grid_methods(methods, ("full",), TINY)
    return Plan(tuple(subjects), known, tuple(range(seeds)), PROMPTS, images=2)


def weights_of(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    modules = {"unet": pipeline.unet, "text": pipeline.text_encoder, "vae": pipeline.vae}
    return {f"{n}.{k}": v.clone() for n, module in modules.items() for k, v in module.state_dict().items()}


def test_a_cell_does_not_depend_on_those_before_it(
    tmp_path: Path, pipeline: StableDiffusionPipeline, judges: Evaluators
) -> None:
    before = weights_of(pipeline)
    many = plan_of("dreambooth", "look-forward", "dreambooth@lora", "dreambooth@custom-diffusion")
    cells = {cell.method: cell for cell, _ in run_grid(many, tmp_path / "many", pipeline, judges)}
    after = weights_of(pipeline)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for method in ("look-forward", "dreambooth@lora"):
        alone = plan_of(method)
        (_, (cell, _)) = run_grid(alone, tmp_path / method, pipeline, judges)
        assert cell.scores == cells[method].scores
    assert len({cells[method].scores["DINO"][0] for method in cells}) == len(cells)  # something was trained


def test_cells_of_other_weights_are_not_mixed(
    tmp_path: Path, pipeline: StableDiffusionPipeline, judges: Evaluators
) -> None:
    (made, _), *_ = run_grid(plan_of("dreambooth"), tmp_path, pipeline, judges)
    other = make_pipeline(5)
    with pytest.raises(LookforwardError, match=r"other weights \(vase-0.dreambooth.0: \w{10}, now .* another --output"):
        next(run_grid(plan_of("look-forward"), tmp_path, other, judges))
    assert made.provenance["model_hash"] == model_hash(pipeline) != model_hash(other)
    for path in (tmp_path / "cells").iterdir():  # as cells of before it was written down
        path.write_text(path.read_text().replace(made.provenance["model_hash"], ""))
    assert len(list(run_grid(plan_of("dreambooth"), tmp_path, other, judges))) == 2


def test_every_method_is_asked_alike_but_for_the_word(
    tmp_path: Path, pipeline: StableDiffusionPipeline, judges: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], list[int]]] = []
    drawn = grid.draw_images

    def note(pipeline: Any, prompts: list[str], seeds: list[int], **settings: Any) -> np.ndarray:
        asked.append((prompts, list(seeds)))
        return drawn(pipeline, prompts, seeds, **settings)

    monkeypatch.setattr(grid, "draw_images", note)
    list(run_grid(plan_of("dreambooth", "dreambooth@lora", seeds=2), tmp_path, pipeline, judges))
    (untouched, *trained), later = asked[:3], asked[3:]
    words = ["in the snow", "in the snow", "on the beach", "on the beach"]
    assert untouched == ([f"a vase {where}" for where in words], [10_000, 10_001, 10_002, 10_003])
    assert trained == 2 * [([f"a sks vase {where}" for where in words], untouched[1])]
    assert [prompts for prompts, _ in later] == [prompts for prompts, _ in asked[:3]]
    assert {tuple(seeds) for _, seeds in later} == {(20_000, 20_001, 20_002, 20_003)}


def cell(subject: str, method: str, seed: int, score: float) -> Cell:
    """A mean of `score` over two images."""
    return Cell(subject, method, seed, {"DINO": [score - 0.1, score + 0.1]}, 60.0, 512.0)


def test_a_summary_has_means_over_subjects_and_paired_differences() -> None:
    gains = {"vase-0": 0.1, "cat-0": 0.2, "dog-0": 0.3}
    base = {"vase-0": 0.1, "cat-0": 0.5, "dog-0": 0.9}
    cells = [
        cell(subject, method, seed, base[subject] + seed * 0.01 + (gains[subject] if method == "best" else 0.0))
        for subject in gains for seed in (0, 1) for method in ("dreambooth", "best")
    ]  # fmt: skip
    rows = summarise(cells)
    assert rows["dreambooth"]["DINO"][0] == pytest.approx(0.505)
    assert rows["best"]["DINO"][0] == pytest.approx(0.705)
    assert rows["best"]["seconds"] == (60.0, None)
    table = differences(cells, "dreambooth")
    assert list(table) == ["best"]
    mean, low, high = table["best"]["DINO"]
    # Student's: three subjects whose gains are 0.1, 0.2 and 0.3, however far apart the subjects are
    assert mean == pytest.approx(0.2)
    assert (high - mean, mean - low) == pytest.approx(2 * (4.3027 * 0.1 / math.sqrt(3),), abs=1e-4)
    others = differences(cells[1:], "dreambooth")  # a cell without its partner is left out
    assert others["best"]["DINO"][0] == pytest.approx((0.1 + 0.2 * 2 + 0.3 * 2) / 5, abs=0.04)


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
            cells.append(cell(subject, method, 0, 0.5 + 0.1 * j))
            write_cell(tmp_path, {}, cells[-1], flat(100 * j + 50 * i, 4))  # 2 prompts × 2 images, 10 apart
    shown: dict[str, Any] = {}

    def note(columns: Any, rows: Any, **more: Any) -> Any:
        shown.update(columns=columns, rows=rows)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("lookforward.benchmark.summary.comparison_sheet", note)
    write_summary(cells, plan, tmp_path)
    values = {name: [int(image[0, 0, 0]) for image in images] for name, images in shown["columns"].items()}
    if len(subjects) == 1:  # all prompts of one: the first image of each
        assert shown["rows"] == ["a sks vase in the snow", "a sks vase on the beach"]
        assert {k: v for k, v in values.items() if k != "references"} == {
            "untouched model": [0, 20], "DreamBooth": [100, 120],
        }  # fmt: skip
        assert len(values["references"]) == 3
        assert "against DreamBooth" not in (tmp_path / "table.md").read_text()
    else:  # prompts in turn
        assert shown["rows"] == ["a sks vase in the snow", "a sks cat on the beach"]
        assert {k: v for k, v in values.items() if k != "reference"} == {
            "untouched model": [0, 70], "DreamBooth": [100, 170],
        }  # fmt: skip
        assert "untouched model against DreamBooth: DINO -0.100" in (tmp_path / "table.md").read_text()
    assert "| DreamBooth | **0.600" in (tmp_path / "table.md").read_text()


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
        write_cell(tmp_path, {}, one, flat(0, 2))
    said: list[str] = []

    def note(columns: Any, rows: Any, **more: Any) -> Any:
        said.extend(rows)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("lookforward.benchmark.summary.comparison_sheet", note)
    write_summary(cells, plan, tmp_path)
    assert said[0].startswith(called)


def test_the_sheet_of_an_ablation_shows_each_value_in_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_ablation(ABLATIONS["discount"], ["vase-0"], [0], {}, images=2, count=3)
    (tmp_path / "cells").mkdir()
    (tmp_path / "images").mkdir()
    for j, method in enumerate(plan.methods):
        write_cell(tmp_path, {}, cell("vase-0", method, 0, 0.5), flat(60 * j, 6))
    shown: dict[str, Any] = {}
    monkeypatch.setattr(
        "lookforward.benchmark.ablation.writing.comparison_sheet", lambda columns, rows, **_: shown.update(columns)
    )
    ablation_sheet(plan, ABLATIONS["discount"], tmp_path)
    values = {name: [int(image[0, 0, 0]) for image in images] for name, images in shown.items()}
    prompts = plan.prompts_of("vase-0")
    assert not prompts[0].endswith("floating on top of water")
    assert {name: sorted(column) for name, column in values.items() if name != "references"} == {
        f"γ = {value}": [60 * j, 60 * j + 20, 60 * j + 40] for j, value in enumerate(("1", "0.9986", "0.99", "0.9"))
    }


def test_the_error_of_a_curve_is_over_subjects() -> None:
    # Three seeds of one subject are no three subjects: sd of the means (1, 3) is √2, over √2
    assert mean_and_error({"a": [0.0, 1.0, 2.0], "b": [3.0]}) == pytest.approx((2.0, 1.0))
    mean, error = mean_and_error({"a": [1.0, 2.0]})
    assert mean == 1.5
    assert math.isnan(error)


def test_a_score_that_is_no_number_is_not_finished(tmp_path: Path) -> None:
    plan = plan_of("dreambooth")
    (tmp_path / "cells").mkdir()
    (tmp_path / "images").mkdir()
    key = ("vase-0", "dreambooth", 0)
    good, bad = cell(*key, 0.5), Cell(*key, {"DINO": [0.5, math.nan]}, 1.0, 1.0)
    assert unknown_scores(bad) == ("DINO",)
    write_cell(tmp_path, plan.settings_of(key), bad, flat(0, 4))
    assert finished_cell(plan, tmp_path, key) is None
    write_cell(tmp_path, plan.settings_of(key), good, flat(0, 4))
    assert finished_cell(plan, tmp_path, key) == good


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model.name": "some/model"}, "benchmark --model"), ({"model.device": "cpu"}, "CUDA_VISIBLE_DEVICES")],
)
def test_a_grid_does_not_take_another_model_or_device(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LookforwardError, match=message):
        grid_methods(("dreambooth",), ("full",), settings)
    with pytest.raises(LookforwardError, match=message):
        plan_ablation(ABLATIONS["discount"], ["vase-0"], [0], settings)
    recipe = tmp_path / "mine.toml"
    recipe.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    with pytest.raises(LookforwardError, match=message):
        grid_methods((str(recipe),), ("full",), {})
    chosen = grid_methods(("dreambooth",), ("full",), {}, model="some/model")
    assert {overrides["model"] for _, overrides in chosen.values()} == {"some/model"}


def test_a_score_of_ones_own_is_taken_and_marked(
    tmp_path: Path, pipeline: StableDiffusionPipeline, judges: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_of_test_grid.py").write_text(
        "def red(images, prompts):\n"
        "    assert 'vase' in prompts[0] and 'sks' not in prompts[0]\n"
        "    return images[:, 0].mean(dim=(1, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    name = "mine_of_test_grid:red"
    check_extra_scores((name,), 1)
    with pytest.raises(LookforwardError, match="there is no module 'no_such'"):
        check_extra_scores(("no_such:f",), 1)
    own = replace(judges, extra=(name,))
    methods = grid_methods(("dreambooth", "state-action"), ("full",), {**TINY, "objective.reward": name})
    plan = Plan(("vase-0",), methods, (0,), PROMPTS, images=2, scoring=Scoring(extra=(name,)))
    cells = [cell for cell, _ in run_grid(plan, tmp_path / "out", pipeline, own)]
    for one in cells:
        drawn = cell_images(tmp_path / "out", *one.key)
        np.testing.assert_allclose(one.scores[name], drawn[..., 0].mean(axis=(1, 2)) / 255, atol=1e-5)
    assert optimised_of(plan) == {"untouched": (), "dreambooth": (), "state-action": (name,)}
    write_summary(cells, plan, tmp_path / "out")
    assert f"| {name} |" in (tmp_path / "out" / "table.md").read_text()
    write_description(plan, tmp_path / "out", "toybox")
    page = read_benchmark(tmp_path / "out")
    assert not page.problems
    write_report(page, tmp_path / "out" / "page.html", "lookforward")
    assert name in (tmp_path / "out" / "page.md").read_text().replace("\\", "")


def test_the_memory_of_a_plan_is_that_of_what_is_trained(tmp_path: Path) -> None:
    whole, parts = (
        estimate(Plan(("vase-0",), grid_methods(recipes, ("full",), {}, "some/model"), (0,)), tmp_path, "some/model")
        for recipes in (("look-forward", "look-forward@lora"), ("look-forward@lora",))
    )
    assert parts.memory < 0.5 * whole.memory
    assert parts.scratch < 0.5 * whole.scratch


def test_methods_of_one_label_are_refused(tmp_path: Path) -> None:
    (tmp_path / "DreamBooth.toml").write_text("steps = 3\n")
    with pytest.raises(LookforwardError, match="Two methods would be called DreamBooth"):
        grid_methods(("dreambooth", str(tmp_path / "DreamBooth.toml")), ("full",), {})


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, pipeline: StableDiffusionPipeline, judges: Evaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LookforwardError, match="cannot be written"):
        next(run_grid(plan_of("dreambooth"), tmp_path / "file", pipeline, judges))

    def diverge(*_: Any, **__: Any) -> Any:
        raise LookforwardError("Step 3: the loss is nan.")

    monkeypatch.setattr(grid, "train", diverge)
    with pytest.raises(LookforwardError, match="vase-0, dreambooth, seed 0: Step 3"):
        list(run_grid(plan_of("dreambooth"), tmp_path / "out", pipeline, judges))
