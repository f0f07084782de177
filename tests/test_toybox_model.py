"""The shipped models: loaded by plain diffusers and transformers, small, and able to draw what is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from lookforward.benchmark.bounds import bounds
from lookforward.benchmark.report import TOYBOX_CEILING
from lookforward.build import build_judges, build_pipeline
from lookforward.config import TOYBOX
from lookforward.generate import draw_images
from lookforward.schedule import scaled_linear
from lookforward.toybox import CLIP, DINO, IDENTITY, JUDGE, MODEL
from lookforward.toybox.check import (
    draw_real,
    draw_requests,
    held_out_pictures,
    named_right,
    retrieval,
    subject_classes,
)
from lookforward.toybox.judge import Judge
from lookforward.vision import to_unit

FOLDERS = (MODEL, CLIP, DINO, IDENTITY, JUDGE)


def test_weights_are_small_and_say_how_they_were_trained() -> None:
    files = [path for folder in FOLDERS for path in Path(folder).rglob("*.safetensors")]
    assert len(files) == 7
    assert sum(path.stat().st_size for path in files) < 40e6
    for path in files:
        with safe_open(path, framework="pt") as file:
            settings = json.loads(file.metadata()["lookforward"])
            kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
            assert kinds <= {torch.float16, torch.int64}  # whole numbers: how many batches a norm has seen
        assert {"seed", "minutes"} <= settings.keys()
        assert "/" not in json.dumps(settings)  # no path of the machine that trained them


def test_plain_diffusers_loads_it_with_stable_diffusions_schedule() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None)
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, scaled_linear().alpha_bar)
    assert len(pipeline.tokenizer("sks", add_special_tokens=False).input_ids) == 1


def test_it_draws_the_scene_that_is_asked_for() -> None:
    """The shipped CLIP judges; on the world's own pictures it is right in nearly all."""
    requests = draw_requests(100)[::9]  # another class and another scene each
    images = draw_images(
        build_pipeline(TOYBOX, "cpu"), [r.prompt for r in requests], list(range(len(requests))), steps=10, guidance=4.0
    )
    assert images.shape == (len(requests), 64, 64, 3)
    clip = build_judges(TOYBOX, device="cpu").clip
    texts = clip.text([r.prompt for r in requests])
    right = [[r.prompt for r in requests].index(r.prompt) for r in requests]
    assert named_right(clip.image(to_unit(images)), texts, right) > 0.6  # chance: 0.08


def test_dino_finds_the_same_subject_in_another_scene() -> None:
    pictures, owners = held_out_pictures(views=4)
    classes, judges = subject_classes()[owners], build_judges(TOYBOX, device="cpu")
    assert judges.identity is not None
    for encoder in (judges.dino, judges.identity):
        found = retrieval(encoder(to_unit(pictures)), owners, classes)
        assert found["top1"] > 0.5  # chance: 0.03; docs/toybox.md has the figures, and the goal
        assert found["same"] > found["class"] + 0.1
        assert found["same"] > found["different"] + 0.1


def test_the_judge_names_what_the_world_drew() -> None:
    requests = draw_requests(100, seed=5)
    answers = Judge(JUDGE)(to_unit(draw_real(requests, seed=6)))
    for group, least in (("class_noun", 0.85), ("scene", 0.9), ("colour", 0.7)):
        right = [answer[group] == getattr(r, group) for answer, r in zip(answers, requests, strict=True)]
        assert sum(right) / len(right) > least


def test_no_config_tells_where_it_was_made() -> None:
    configs = [path for folder in FOLDERS for path in Path(folder).rglob("*.json")]
    assert len(configs) > 5
    assert not [path for path in configs if "_name_or_path" in path.read_text(encoding="utf-8")]


def test_the_ceiling_of_a_report_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the oracle score, which takes long, and the floor, whose images take longer."""
    monkeypatch.setattr("lookforward.benchmark.bounds.drawing", lambda subject: None)
    monkeypatch.setattr("lookforward.benchmark.bounds._model", lambda _, prompts: np.zeros((4, 64, 64, 3), np.uint8))
    found = {f.name: f.reached for f in bounds(build_pipeline(TOYBOX, "cpu"), build_judges(TOYBOX, device="cpu"))}
    for kind, scores in TOYBOX_CEILING.items():
        for score in scores.keys() - {"oracle"}:
            assert found[f"ceiling, {kind}, {score}"] == pytest.approx(scores[score], abs=0.002)
            assert found[f"floor, {kind}, {score}"] < scores[score]
