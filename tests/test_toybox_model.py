"""The shipped models: loaded by plain diffusers and transformers, small, and able to draw what is asked for."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from lookforward.assembly import build_evaluators, build_scores
from lookforward.models.encoders import to_unit
from lookforward.models.encoders.metadata import is_evaluation_only
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images
from lookforward_toybox import CLIP, DINO, IDENTITY, JUDGE, MODEL
from lookforward_toybox.bounds import bounds
from lookforward_toybox.check import (
    captioned_pictures,
    draw_real,
    draw_requests,
    held_out_pictures,
    named_right,
    retrieval,
    subject_classes,
)
from lookforward_toybox.figure import figure_of
from lookforward_toybox.judge import Judge
from lookforward_toybox.models import MODELS
from tiny import scaled_linear

SD = "toybox-sd"
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
        assert {"stage", "seed", "minutes"} <= settings.keys()
        assert "begun_from" in settings.get("encoder_training", settings)
        assert "/" not in json.dumps(settings)  # no path of the machine that trained them
        stage = path.parent.name
        assert settings["stage"] == {"vae": "decoder", "text_encoder": "unet"}.get(stage, stage)


def test_plain_diffusers_loads_it_with_stable_diffusions_schedule() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None)
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, scaled_linear().squares[0])
    assert len(pipeline.tokenizer("sks", add_special_tokens=False).input_ids) == 1


def test_it_draws_the_scene_that_is_asked_for() -> None:
    """The shipped CLIP judges; on the world's own pictures it is right in nearly all."""
    requests = draw_requests(100)[::9]  # another class and another scene each
    images = draw_images(
        build_pipeline(SD, "cpu"), [r.prompt for r in requests], list(range(len(requests))), steps=10, guidance=4.0
    )
    assert images.shape == (len(requests), 64, 64, 3)
    clip = build_evaluators(SD, device="cpu").encoders.clip
    prompts = [r.prompt for r in requests]
    assert named_right(clip.image(to_unit(images)), clip.text(prompts), prompts).mean() > 0.6  # chance: 0.08


def test_the_judge_finds_in_what_is_drawn_what_was_asked_for() -> None:
    """On 60 images, a fifth of those of `toybox check`, in half of its steps; goals 0.9, 0.9, 0.8 less two errors."""
    requests = draw_requests(300)[::5]
    prompts = [r.prompt for r in requests]
    images = draw_images(build_pipeline(SD, "cpu"), prompts, list(range(len(prompts))), steps=25, guidance=4.0)
    answers = Judge(JUDGE)(to_unit(images))
    for group, least in (("class_noun", 0.85), ("scene", 0.85), ("colour", 0.7)):
        right = [answer[group] == getattr(r, group) for answer, r in zip(answers, requests, strict=True)]
        assert np.mean(right) > least, group


def test_clip_finds_the_caption_of_a_held_out_subject() -> None:
    pictures, captions = captioned_pictures()
    assert len(pictures) == len(captions) == 600
    chosen = np.random.default_rng(1).permutation(600)[:100]
    clip = build_evaluators(SD, device="cpu").encoders.clip
    expected = [captions[i] for i in chosen]
    assert named_right(clip.image(to_unit(pictures[chosen])), clip.text(expected), expected).mean() > 0.85


def test_named_right_takes_equal_captions_for_each_others() -> None:
    images = torch.eye(3)
    assert named_right(images, images, ["a", "b", "c"]).tolist() == [True] * 3
    assert named_right(images, images.roll(1, 0), ["a", "b", "c"]).tolist() == [False] * 3
    assert named_right(images, images[[1, 0, 2]], ["a", "a", "c"]).tolist() == [True] * 3


def test_a_figure_tells_how_well_it_is_known() -> None:
    all_right = figure_of("scene", np.ones(300, dtype=bool))
    assert (all_right.reached, all_right.margin) == (1.0, pytest.approx(0.0063, abs=1e-4))
    assert figure_of("colour", np.arange(300) < 240).margin == pytest.approx(0.045, abs=1e-3)
    assert math.isnan(figure_of("of broken weights", np.array([1.0, np.nan, 1.0, 1.0, 1.0, 1.0, 0.5])).reached)
    grouped = figure_of("PSNR", np.array([26.0, 26.0, 28.0, 28.0]), np.array([0, 0, 1, 1]), 27, " dB")
    assert (grouped.reached, grouped.goal) == (27.0, 27)
    assert grouped.margin == pytest.approx(12.706, rel=1e-3)  # Student's, of two subjects
    assert figure_of("one subject", np.array([0.3]), np.array([0])).margin is None


def test_retrieval_is_among_one_picture_of_each_subject() -> None:
    owners, classes = np.repeat(np.arange(3), 2), np.repeat(["cat", "cat", "vase"], 2)
    # Subject 1's second picture looks like subject 0; all else is distinguished
    embeddings = torch.eye(3)[[0, 0, 1, 0, 2, 2]]
    found = retrieval(embeddings, owners, classes)
    assert found["top1"].tolist() == [1.0, 0.0, 1.0]  # by its first one it finds subject 2's or 0's, by its second 0's
    assert found["same"].tolist() == [1.0, 0.0, 1.0]
    assert found["class"][:2].tolist() == [0.5, 0.5]
    assert np.isnan(found["class"][2])
    assert found["different"].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="each as often"):
        retrieval(embeddings, np.array([0, 1, 0, 1, 2, 2]), classes)


def test_dino_finds_the_same_subject_in_another_scene() -> None:
    pictures, owners = held_out_pictures(views=4)
    classes, encoders = subject_classes()[owners], build_evaluators(SD, device="cpu").encoders
    for encoder in (encoders.dino, encoders.identity):
        found = retrieval(encoder(to_unit(pictures)), owners, classes)
        assert found["top1"].mean() > 0.8  # chance: 0.03; docs/toybox.md has the figures
        assert found["same"].mean() > np.nanmean(found["class"]) + 0.3
        assert found["same"].mean() > found["different"].mean() + 0.3


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
    monkeypatch.setattr("lookforward_toybox.bounds.build_scores", lambda by, photos, _: build_scores(by, photos, None))
    monkeypatch.setattr("lookforward_toybox.bounds._model", lambda *_: np.zeros((4, 64, 64, 3), np.uint8))
    found = {f.name: f.reached for f in bounds(build_pipeline(SD, "cpu"), build_evaluators(SD, device="cpu"))}
    for kind, scores in MODELS[SD].ceiling.items():
        for score in scores.keys() - {"oracle"}:
            assert found[f"ceiling, {kind}, {score}"] == pytest.approx(scores[score], abs=0.002)
            assert found[f"floor, {kind}, {score}"] < scores[score]


def test_encoders_for_evaluation_are_marked() -> None:
    marked = {folder.name: is_evaluation_only(folder) for folder in (CLIP, DINO, IDENTITY, JUDGE)}
    assert marked == {"clip": False, "dino": False, "identity": True, "judge": True}
