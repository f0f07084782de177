"""Metrics and samples in TensorBoard and Weights & Biases, and photos that are held out of training."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from errors import raises
from jobs import logged
from lookforward import personalize
from lookforward.data.subject import hold_out
from lookforward.runs.step_choice import read_evaluations
from lookforward.runs.trackers import require_tracker

QUICK: dict[str, Any] = {
    "run.steps": 4,
    "objective.prior_weight": 0.0,
    "evaluation.sampler_steps": 2,
    "evaluation.sample_every": 2,
    "evaluation.every": 2,
    "evaluation.images": 1,
    "run.checkpoint_every": 1,
}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def subject() -> Any:
    from lookforward.bundle import require_bundle

    return require_bundle().subjects()[0]


@pytest.fixture(scope="module")
def photos(subject: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked") / "photos"
    subject.write_photos(folder)
    return folder


@needs("tensorboard")
def test_tensorboard_shows_each_step_once_when_a_run_is_stopped(photos: Path, subject: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, settings = tmp_path / "run", QUICK | {"run.report_to": "tensorboard"}

    def stop(result: Any) -> None:
        if result.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        personalize(photos, subject.class_noun, adapter="lora", settings=settings, output=run, on_step=stop)
    (run / "checkpoints" / "step-000003").rename(tmp_path / "lost")  # so that step 3 is taken again
    personalize(photos, subject.class_noun, adapter="lora", settings=settings, output=run)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    for name in ("loss", "seconds"):
        assert [one.step for one in events.Scalars(f"train/{name}")] == [1, 2, 3, 4]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [one.value for one in events.Scalars("train/loss")] == pytest.approx([row["loss"] for row in rows], rel=1e-6)
    measured = {one.step: one.identity for one in read_evaluations(run / "evaluations.jsonl")}
    shown = {one.step: one.value for one in events.Scalars("evaluation/identity")}
    assert shown == pytest.approx({2: measured[2], 4: measured[4]}, rel=1e-6)
    assert [one.step for one in events.Images("samples")] == [2, 4]
    assert events.Images("samples")[0].height > 100
    assert "run.steps" in str(events.summary_metadata) or events.Tensors("settings/text_summary")


@needs("wandb")
def test_wandb_is_told_offline(photos: Path, subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    personalize(photos, subject.class_noun, adapter="lora", settings=QUICK | {"run.report_to": "wandb"}, output=run)
    (written,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    for name in (b"train/loss", b"evaluation/identity", b"samples", b"run.steps"):
        assert name in content
    assert list((run / "wandb").glob("offline-run-*/files/media/images/samples_*.png"))


@needs("tensorboard")
def test_tracker_changes_nothing_in_the_run(photos: Path, subject: Any, tmp_path: Path) -> None:
    settings = QUICK | {"evaluation.sample_every": 0, "run.steps": 2}
    for name in ("none", "tensorboard"):
        output = tmp_path / name
        personalize(
            photos, subject.class_noun, adapter="lora", settings=settings | {"run.report_to": name}, output=output
        )
    assert logged(tmp_path / "none") == logged(tmp_path / "tensorboard")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with raises("package-missing", "wandb", "pip install wandb"):
        require_tracker("wandb")
    require_tracker("none")


def test_held_out_photo_is_measured_and_not_learned(photos: Path, subject: Any, tmp_path: Path) -> None:
    """The run is that of the other photos, to the last bit; only the measured loss is the held-out photo's."""
    names = sorted(path.name for path in photos.glob("*.png"))
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for name in names[:-1]:
        (fewer / name).write_bytes((photos / name).read_bytes())
    settings = QUICK | {"evaluation.sample_every": 0, "data.allow_few": True}
    held, plain = tmp_path / "held", tmp_path / "plain"
    options = settings | {"evaluation.held_out": 1}
    with pytest.warns(UserWarning, match=f"held out of training.*{names[-1]}"):
        personalize(photos, subject.class_noun, adapter="lora", settings=options, output=held)
    personalize(fewer, subject.class_noun, adapter="lora", settings=settings, output=plain)
    assert logged(held) == logged(plain)
    measured, others = (read_evaluations(run / "evaluations.jsonl") for run in (held, plain))
    assert [(one.identity, one.prompt) for one in measured] == [(one.identity, one.prompt) for one in others]
    assert all(one.loss != other.loss for one, other in zip(measured, others, strict=True))


def test_two_photos_are_left_to_learn_from(photos: Path, subject: Any) -> None:
    from lookforward.data.subject import load_subject

    loaded = load_subject(photos, class_noun=subject.class_noun, resolution=64)
    count = len(loaded.photos)
    trained, held = hold_out(loaded, count - 2)
    assert held is not None
    assert (len(trained.photos), len(held.photos)) == (2, count - 2)
    assert hold_out(loaded, 0) == (loaded, None)
    with raises("photos-held-out", "leaves 1 of", "two are left"):
        hold_out(loaded, count - 1)
