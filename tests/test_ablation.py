"""`lookforward ablate`, the grid below it and the rewards that it ships, on a tiny model."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_pipeline
from errors import raises
from jobs import Command
from lookforward.assembly import Evaluators
from lookforward.benchmark.cell import Cell, smooth_curves
from lookforward.benchmark.dataframes import planned_benchmark
from lookforward.benchmark.optimised import optimised_scores
from lookforward.benchmark.plan import Plan, spread_prompts
from lookforward.config.recipe import load_settings, recipe_names
from lookforward.data.prompts import LIVE_PROMPTS, OBJECT_PROMPTS
from lookforward.examples.rewards import colourfulness, png_size
from lookforward.models.encoders import Encoders, load_clip, load_dino
from lookforward.models.families.sd import SD
from lookforward.rewards.call import CallableReward, load_callable
from lookforward_toybox.comparisons.ablations import ABLATIONS, method_of, plan_ablation
from lookforward_toybox.comparisons.pages import ablation_curves, reward_differences
from tiny_rewards import flat, save_clip, save_vit, with_images

SMALL = (
    "--data.resolution", "32", "--data.class-images", "2", "--data.class-image-steps", "1",
    "--evaluation.sampler-steps", "1",
    "--optimizer.learning-rate", "1e-3",
    "--prompts", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def evaluators(tmp_path_factory: pytest.TempPathFactory) -> Evaluators:
    """A tiny DINO, a tiny CLIP, and the DINO once more for identity."""
    folder = tmp_path_factory.mktemp("evaluators")
    dino = load_dino(str(save_vit(folder / "dino")), "cpu")
    return Evaluators(Encoders({}, dino=dino, clip=load_clip(str(save_clip(folder / "clip"))), identity=dino))


@pytest.fixture
def run(evaluators: Evaluators, command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command in an empty folder, where Toybox is the tiny model: its status, stdout and stderr."""
    pipeline = make_pipeline()
    SD.set_sampler(pipeline)
    monkeypatch.setattr("lookforward.benchmark.cell_runner.build_pipeline", lambda *_: pipeline)
    monkeypatch.setattr("lookforward.benchmark.cell_runner.build_evaluators", lambda *_, **__: evaluators)
    monkeypatch.setattr("lookforward.models.encoders.loaded.load_dino", lambda *_: evaluators.encoders.dino)
    monkeypatch.chdir(tmp_path)
    return command_line


def test_frozen_runs_once_and_states_its_difference(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("ablate", "frozen", "--subjects", "teapot-0", "dog-0", "--seeds", 1, "--steps", 12, *SMALL)
    status, out, err = run(*command)
    assert (status, err) == (0, "")
    folder = Path("runs/ablate-frozen")
    table = (folder / "table.md").read_text()
    assert "| method | cells | DINO | CLIP-I | CLIP-T | identity | oracle |\n" in table
    pattern = (
        r"Reward over the last quarter of the run, critic learns minus critic never learns: [+-][\d.e-]+, "
        r"95% interval \[[+-][\d.e-]+, [+-][\d.e-]+\], 2 pairs of one subject and seed\."
    )
    assert re.search(pattern, table.replace("\\", ""))
    assert re.search(pattern, out)
    assert "†" not in table

    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2  # values, subjects, images
    assert {row["label"] for row in rows} == {"critic learns", "critic never learns"}
    learns, never = (
        json.loads((folder / "cells" / f"dog-0.frozen-critic-{part}.0.json").read_text())
        for part in ("learns", "never-learns")
    )
    assert [step for step, _ in learns["curves"]["critic_loss"]] == [10, 12]
    assert [step for step, _ in never["curves"]["reward"]] == [10, 12]
    assert "critic_loss" not in never["curves"]
    assert learns["terms"]["reward"] == pytest.approx(learns["curves"]["reward"][1][1], rel=0.2)
    for name in ("sheet.png", "curves.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 200

    monkeypatch.setattr("lookforward.benchmark.cell_runner.train", lambda *_: 1 / 0)
    status, again, err = run(*command)
    assert (status, err) == (0, "")
    assert again.count("kept") == 4
    assert (folder / "table.md").read_text() == table
    status, _, err = run(*command, "--run.batch-size", "2")
    assert status == 2
    assert "was run with other settings" in err


def test_other_values_join_what_was_run(run: Command) -> None:
    start = ("ablate", "discount", "--subjects", "vase-0", "--seeds", 1, "--steps", 2, "--output", "out", *SMALL)
    status, out, err = run(*start, "--values", "0.9986", "0.5")
    assert (status, err) == (0, "")
    assert "2 cells" in out
    status, out, _ = run(*start, "--values", "1", "0.5", "--images", "1")
    assert (status, out.count("kept")) == (0, 1)
    assert list(rows_of(Path("out/table.md"))) == ["γ = 1", "γ = 0.5"]
    assert {path.stem for path in Path("out/cells").iterdir()} == {
        f"vase-0.discount-{value}.0" for value in ("0.9986", "0.5", "1")
    }


def rows_of(path: Path) -> dict[str, str]:
    """The lines of the first table of a Markdown file, by their first cell."""
    lines = path.read_text().split("**Scores**")[1].split("\n\n")[1].splitlines()
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}


def test_a_score_that_was_optimised_is_marked(run: Command) -> None:
    note = "† The method's reward optimised this very score"
    status, out, err = run("compare", "--recipes", "dreambooth", "dino", "--subjects", "vase-0", "cat-0", "--seeds", 1,
                           "--output", "out", "--run.steps", "2", *SMALL)  # fmt: skip
    assert (status, err) == (0, "")
    text = Path("out/table.md").read_text()
    assert note in text
    assert note in out
    marked = [line for line in text.splitlines() if "†" in line and note not in line]
    assert len(marked) == 2  # of the scores and of the differences
    assert re.search(r"^\| DINO reward \| 2 \| \d\.\d+ ± \d\.\d+ † \| [^†]+$", marked[0])
    assert re.search(r"^\| DINO reward \| 2 \| [+−][^†|]+ † \| [^†]+$", marked[1])

    status, out, err = run("ablate", "reward", "--subjects", "vase-0", "--seeds", 1, "--steps", 2, *SMALL)
    assert (status, err) == (0, "")
    rows = rows_of(Path("runs/ablate-reward/table.md"))
    assert [rows[reward].count("†") for reward in ABLATIONS["reward"].values] == [0, 1, 1, 1]
    with Path("runs/ablate-reward/results.csv").open() as file:
        optimised = {row["label"]: row["optimised"] for row in csv.DictReader(file)}
    assert optimised == dict(zip(ABLATIONS["reward"].values, ("", "DINO", "DINO", "CLIP-T"), strict=True))


@pytest.mark.parametrize(
    ("settings", "scores"),
    [
        ({"objective.reward": "dino"}, ("DINO",)),
        ({"objective.reward": "look-forward"}, ()),
        ({"objective.reward": "look-forward + 0*dino"}, ()),
        ({"objective.reward": "clip-text - 0.5*clip-image + 2*dino"}, ("DINO", "CLIP-I", "CLIP-T")),
        ({"objective.reward": "dino", "critic.name": "none", "objective.reward_gradient": "direct"}, ("DINO",)),
        ({"objective.reward": "dino", "critic.name": "none"}, ()),
        ({"objective.reward": "dino", "critic.weight": 0.0}, ()),
        ({"objective.reward": "dino", "critic.steps": 0}, ()),
        (
            {"objective.reward": "dino", "baseline.name": "draft", "critic.name": "none", "critic.weight": 0.0},
            ("DINO",),
        ),
    ],
)
def test_what_a_reward_optimises(settings: dict[str, Any], scores: tuple[str, ...]) -> None:
    assert optimised_scores(load_settings("dino", settings)) == scores


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["gamma"], ["'gamma'", *(f"\n  {name} " for name in ABLATIONS)]),
        (["discount", "--values", "0.9", "many"], ["--values many", "γ", "discount"]),
        (["discount", "--values", "true"], ["--values true", "γ", "discount"]),
        (["discount", "--values", "nan"], ["--values nan", "γ", "discount"]),
        (["discount", "--values", "1.5"], ["objective.discount", "1.5"]),
        (["scale", "--values", "2.5"], ["critic.bins", "2.5"]),
        (["target", "--values", "2"], ["--values", "discount, critic-weight, scale"]),
        (["discount", "--objective.discount", "0.5"], ["objective.discount"]),
        (["discount", "--recipe", "nothing"], ["'nothing'"]),
        (["discount", "--prompts", "0"], ["--prompts 0", "25"]),
        (["discount", "--seeds", "0"], ["seed"]),
    ],
)
def test_what_was_asked_wrongly(run: Command, words: list[str], facts: list[str]) -> None:
    status, _, err = run("ablate", *words)
    assert status == 2
    assert err.startswith("lookforward: ")
    assert [fact for fact in facts if fact not in err] == []
    assert "Traceback" not in err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ABLATIONS)
def test_values_differ_in_what_is_varied_alone(name: str) -> None:
    ablation = ABLATIONS[name]
    plan = plan_ablation(ablation, ["vase-0"], [0], {"run.steps": 3})
    assert len(plan.methods) == len(ablation.values) >= 2
    assert all(re.fullmatch(r"[\w.+-]+", method) for method in plan.methods)
    configs = [load_settings(recipe, overrides) for recipe, overrides in plan.methods.values()]
    flat = [one.flat() for one in configs]
    differing = {name for name in flat[0] if len({values[name] for values in flat}) > 1}
    assert differing == {field for values in ablation.values.values() for field in values}
    assert len(differing) == 1
    assert len(set(configs)) == len(configs)
    assert not ablation.baseline or ablation.baseline in ablation.values


def test_every_reward_of_a_preset_is_compared() -> None:
    configs = [load_settings(name, {}) for name in recipe_names()]
    assert {c.objective.reward for c in configs if c.critic.name != "none"} <= ABLATIONS["reward"].values.keys()


def cells_of(name: str, count: int = 3) -> tuple[Plan, list[Cell]]:
    """An ablation's cells with curves by hand: reward i + 0.1 of subject i, 0.25 less for the last value."""
    plan = plan_ablation(ABLATIONS[name], [f"dog-{i}" for i in range(count)], [0], {})
    cells = []
    for i, subject in enumerate(plan.subjects):
        for method in plan.methods:
            reward = i + 0.1 - 0.25 * (method == list(plan.methods)[-1])
            curves = {t: [[10, 9.0], [20, reward]] for t in ("reward", "critic_loss", "explained_variance")}
            settings = {"config": {}, "prompts": ["a {class_noun}"], "images": 1}
            terms = {"reward": reward}
            cells.append(Cell(subject, method, 0, {"DINO": [0.5]}, 1.0, 1.0, terms, curves, settings=settings))
    return plan, cells


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("discount", ["critic loss", "explained variance", "reward"]),
        ("reward", ["critic loss", "explained variance", *(f"reward {r}" for r in ABLATIONS["reward"].values)]),
    ],
)
def test_curves_are_means_over_subjects(name: str, titles: list[str]) -> None:
    plan, cells = cells_of(name)
    figure = ablation_curves(planned_benchmark(plan, cells), ABLATIONS[name])
    assert figure is not None
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(panels) == titles
    lines = panels["explained variance"].get_lines()
    assert [line.get_label() for line in lines] == list(ABLATIONS[name].values)
    np.testing.assert_allclose(np.asarray(lines[0].get_xydata()), [[10, 9], [20, 1.1]])
    np.testing.assert_allclose(np.asarray(lines[-1].get_xydata()), [[10, 9], [20, 0.85]])
    assert len(panels["explained variance"].collections) == len(lines)  # a band each
    assert panels["critic loss"].get_yscale() == "log"
    without = [replace(cell, curves={}) for cell in cells]
    assert ablation_curves(planned_benchmark(plan, without), ABLATIONS[name]) is None


def test_the_error_of_a_curve_is_over_subjects() -> None:
    """Three seeds of one subject are no three subjects: the standard deviation of means 1 and 3 is √2, over √2."""
    plan = plan_ablation(ABLATIONS["discount"], ["dog-0", "cat-0"], [0, 1, 2], {})
    method = next(iter(plan.methods))
    settings = {"config": {}, "prompts": ["a {class_noun}"], "images": 1}
    values = [("dog-0", 0, 0.0), ("dog-0", 1, 1.0), ("dog-0", 2, 2.0), ("cat-0", 0, 3.0)]
    cells = [
        Cell(subject, method, seed, {"DINO": [0.5]}, 1.0, 1.0, {}, {"reward": [[10, value]]}, settings=settings)
        for subject, seed, value in values
    ]
    figure = ablation_curves(planned_benchmark(plan, cells), ABLATIONS["discount"])
    assert figure is not None
    axis = figure.axes[0]
    np.testing.assert_allclose(np.asarray(axis.get_lines()[0].get_xydata()), [[10, 2.0]])
    (band,) = axis.collections
    assert [band.get_datalim(axis.transData).y0, band.get_datalim(axis.transData).y1] == pytest.approx([1.0, 3.0])
    alone = ablation_curves(planned_benchmark(plan, cells[:3]), ABLATIONS["discount"])
    assert alone is not None
    assert not alone.axes[0].collections


@pytest.mark.parametrize(
    ("count", "facts"), [(3, r"95% interval \[\+0\.25, \+0\.25\], 3 pairs"), (1, "no interval, 1 pair")]
)
def test_the_difference_of_rewards_is_paired(count: int, facts: str) -> None:
    """Subjects differ by 1 and more, learning and not by 0.25 exactly."""
    plan, cells = cells_of("frozen", count)
    baseline = method_of(ABLATIONS["frozen"], "critic never learns")
    (line,) = reward_differences(cells, plan, baseline)
    assert re.search(rf"critic learns minus critic never learns: \+0\.25, .*{facts}", line)
    assert reward_differences(cells, plan, "") == []


def test_methods_have_names_for_files() -> None:
    assert method_of(ABLATIONS["reward"], "look-forward + 0.5*dino") == "reward-look-forward+0.5dino"
    assert method_of(ABLATIONS["discount"], "γ = 0.9986") == "discount-0.9986"


def test_curves_are_means_of_ten_steps() -> None:
    rows = [{"loss": float(step)} | ({"q": 1.0} if step % 20 == 1 else {}) for step in range(1, 26)]
    assert smooth_curves(rows) == {"loss": [[10, 5.5], [20, 15.5], [25, 23.0]], "q": [[1, 1.0], [21, 1.0]]}
    assert smooth_curves([]) == {}


def test_cells_of_before_there_were_curves_are_read() -> None:
    assert Cell("a", "b", 0, {}, 1.0, 1.0, {}).curves == {}


@pytest.mark.parametrize("templates", [LIVE_PROMPTS, OBJECT_PROMPTS])
def test_prompts_are_spread_over_their_kinds(templates: tuple[str, ...]) -> None:
    live = templates is LIVE_PROMPTS
    assert spread_prompts(templates, 25) == templates
    for count in range(1, 25):
        chosen = spread_prompts(templates, count)
        assert len(chosen) == count
        assert set(chosen) < set(spread_prompts(templates, count + 1))
        assert [t for t in templates if t in chosen] == list(chosen)
    where = [templates.index(t) for t in spread_prompts(templates, 6)]
    assert where == ([0, 1, 10, 11, 20, 21] if live else [0, 1, 2, 20, 21, 22])


def test_calm_images_have_smaller_files() -> None:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    reward = CallableReward(load_callable("lookforward.examples.rewards:png_size"), "png")
    calm, noisy = reward(with_images(torch.cat([torch.full_like(noise, 0.5), noise])))
    assert -0.5 < calm < 0
    assert -14 < noisy < -12  # 64 · 64 · 3 bytes hardly pack
    assert png_size(noise, [""]) == [noisy]


def test_colourfulness_by_hand() -> None:
    images = flat((0.5, 0.5, 0.5), (1.0, 0.0, 0.0))
    half = flat((1.0, 0.0, 0.0)).clone()
    half[..., : half.shape[-1] // 2] = 0.5
    # red: 0.3 · |(1, 0.5)|; half red, half grey: standard deviations 0.5 and 0.25, means as much
    wanted = [0.0, 0.3 * 1.25**0.5, 1.3 * 0.3125**0.5]
    torch.testing.assert_close(colourfulness(torch.cat([images, half]), [""] * 3), torch.tensor(wanted))


def test_an_error_of_a_plan_names_the_remedy() -> None:
    with raises("ablation-varied-setting", "target"):
        plan_ablation(ABLATIONS["target"], ["vase-0"], [0], {"critic.target": "one-step"})
