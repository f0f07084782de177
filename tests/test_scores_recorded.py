"""How images were scored is kept with the result: the identifier in CLIP-T, further scores, what was optimised."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from errors import raises
from fake_cells import FakeRunner, begun, fake_plan, finish
from lookforward.benchmark.cell import finished_cell
from lookforward.benchmark.cell_runner import run_cell
from lookforward.benchmark.dataframes import write_results
from lookforward.benchmark.description import write_description
from lookforward.benchmark.optimised import optimised_of, optimised_scores
from lookforward.benchmark.plan import Plan, Scoring
from lookforward.benchmark.runner import prepare
from lookforward.config.recipe import load_settings
from lookforward.data.prompts import fill
from lookforward.models.load_pipeline import build_pipeline


def rescored(plan: Plan, **scoring: Any) -> Plan:
    return Plan(plan.subjects, plan.methods, plan.seeds, plan.prompts, plan.images, plan.count, plan.dataset,
                Scoring(**scoring))  # fmt: skip


def test_cells_scored_in_two_ways_are_not_mixed(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path / "set", 1)
    usual, kept = tmp_path / "usual", tmp_path / "kept"
    prepare(plan, usual)
    usual_cells = [o.cell for o in finish(plan, usual, FakeRunner(tmp_path / "usual.txt")) if o.cell]
    key = next(iter(plan.cells()))
    recorded = json.loads(next((usual / "cells").glob("*.json")).read_text())["settings"]
    assert recorded.keys() == {"config", "prompts", "images", "class_noun", "photos"}  # as cells of before had
    others: list[dict[str, Any]] = [{name: "other"} for name in ("dinov2", "dino", "clip")]
    for scoring in ({"identifier_in_clip_text": True}, {"extra": ("dinov2",)}, *others):
        with raises("cell-settings-differ", usual):
            prepare(rescored(plan, **scoring), usual)

    other = rescored(plan, identifier_in_clip_text=True, extra=("dreamsim", "dinov2"), dino="other")
    prepare(other, kept)
    kept_cells = [o.cell for o in finish(other, kept, FakeRunner(tmp_path / "kept.txt")) if o.cell]
    again = rescored(plan, identifier_in_clip_text=True, extra=("dinov2", "dreamsim"), dino="other")
    assert finished_cell(again, kept, key) is not None
    assert len(begun(tmp_path / "kept.txt")) == 6
    with raises("cell-settings-differ", kept):
        prepare(plan, kept)
    for folder, grid, cells, changed in ((usual, plan, usual_cells, False), (kept, other, kept_cells, True)):
        write_description(grid, folder, "toybox")
        write_results(grid, cells, folder, "toybox")
        described = json.loads((folder / "benchmark.json").read_text())
        assert described["identifier_in_clip_text"] is changed
        assert described["extra_scores"] == (["dinov2", "dreamsim"] if changed else [])
        assert described["encoders"] == ({"dino": "other"} if changed else {})
        with (folder / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["identifier_in_clip_text"] for row in rows} == {str(changed)}
        assert {row["dino"] for row in rows} == {"other" if changed else ""}


@pytest.mark.parametrize("kept", [False, True])
def test_clip_text_sees_the_identifier_where_it_is_kept(
    kept: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Noting:
        name = "noting"

        def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
            seen.extend(prompts)
            return torch.zeros(len(images))

    monkeypatch.setattr("lookforward.benchmark.cell_runner.build_scores", lambda *_: [Noting()])
    plan = fake_plan(
        tmp_path / "set",
        1,
        str(tiny_model),
        **{
            "data.resolution": 32,
            "evaluation.sampler_steps": 1,
            "subject.identifier": "zwx",
        },
    )
    plan = rescored(plan, identifier_in_clip_text=kept)
    evaluators: Any = None
    pipeline = build_pipeline(str(tiny_model))
    run_cell(plan, ("old_vase", "untouched", 0), tmp_path / "set" / "old_vase", pipeline, evaluators, "")
    noun = "zwx vase" if kept else "vase"
    assert seen == [fill(p, "", noun) for p in plan.prompts_of("old_vase") for _ in range(2)]
    assert all(("zwx" in text) is kept for text in seen)


@pytest.mark.parametrize(
    ("reward", "scores"),
    [
        ("dinov2 + lpips + dreamsim", ("DINOv2", "DreamSim", "diversity")),
        ("embedding:facebook/dino-vits16", ("DINO",)),
        ("dino + embedding:facebook/dinov2-small", ("DINO", "DINOv2")),
        ("embedding:other", ()),
    ],
)
def test_optimised_scores_are_those_of_the_rewards_own_encoder(reward: str, scores: tuple[str, ...]) -> None:
    assert optimised_scores(load_settings("dino", {"objective.reward": reward, "model.name": "some/model"})) == scores


def test_a_score_that_is_not_taken_is_not_marked(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path / "set", 1, **{"objective.reward": "dino + dinov2"})
    plans = {extra: optimised_of(rescored(plan, extra=extra))["dino"] for extra in ((), ("dinov2",))}
    assert plans == {(): ("DINO",), ("dinov2",): ("DINO", "DINOv2")}


def test_a_reward_that_asked_an_exchanged_encoder_is_marked() -> None:
    settings = load_settings("dino", {"objective.reward": "embedding:other", "model.name": "some/model"})
    assert optimised_scores(settings, Scoring(dino="other")) == ("DINO",)
