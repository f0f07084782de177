"""A run that is measured while it trains: the best step is exported, and training itself stays as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from errors import raises
from jobs import logged
from lookforward import personalize
from lookforward.assembly.validation import Validation, validation_scenes
from lookforward.config.recipe import load_settings, until_best
from lookforward.data.prompts import LIVE_PROMPTS, OBJECT_PROMPTS
from lookforward.exports.card import CARD, CURVE
from lookforward.exports.load import read_manifest
from lookforward.runs.step_choice import Evaluation, read_evaluations

PLAIN: dict[str, Any] = {
    "run.steps": 6,
    "data.class_images": 1,
    "data.class_image_steps": 2,
    "evaluation.sampler_steps": 2,
    "evaluation.sample_every": 0,
    "run.checkpoint_every": 3,
}
MEASURED = PLAIN | {"evaluation.every": 2, "evaluation.images": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lookforward.bundle import require_bundle

    folder = tmp_path_factory.mktemp("best") / "photos"
    subject: Any = require_bundle().subjects()[0]
    subject.write_photos(folder)
    return folder


@pytest.fixture(scope="module")
def noun() -> str:
    from lookforward.bundle import require_bundle

    return require_bundle().subjects()[0].class_noun


@pytest.fixture(scope="module")
def measured(photos: Path, noun: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured") / "run"
    personalize(photos, noun, adapter="lora", settings=MEASURED, output=folder)
    return folder


def rows_of(folder: Path) -> list[Evaluation]:
    return read_evaluations(folder / "evaluations.jsonl")


def without_seconds(folder: Path) -> list[tuple[float, ...]]:
    return [(one.step, one.identity, one.prompt, one.loss) for one in rows_of(folder)]


def test_measured_run_trains_as_any_other(measured: Path, photos: Path, noun: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    personalize(photos, noun, adapter="lora", settings=PLAIN, output=plain)
    assert logged(plain) == logged(measured)
    rows = rows_of(measured)
    assert [one.step for one in rows] == [0, 2, 4, 6]
    assert all(-1 <= one.identity <= 1 and -1 <= one.prompt <= 1 and one.loss > 0 for one in rows)
    assert len({one.identity for one in rows}) == 4  # the weights moved, and so did the images
    assert not (measured / "candidates").exists()


def test_export_is_the_chosen_step(measured: Path, photos: Path, noun: str, tmp_path: Path) -> None:
    step = read_manifest(measured / "export")["step"]
    shorter = tmp_path / "shorter"
    personalize(photos, noun, adapter="lora", settings=PLAIN | {"run.steps": step}, output=shorter)
    (name,) = [path.name for path in (shorter / "export").glob("*.safetensors")]
    wanted, found = load_file(shorter / "export" / name), load_file(measured / "export" / name)
    assert wanted.keys() == found.keys()
    assert all(wanted[key].equal(found[key]) for key in wanted)
    assert (measured / "exports" / "last").is_dir() == (step != 6)
    card = (measured / "export" / CARD).read_text()
    assert f"Step {step} of 6, the best of 3" in card
    assert (measured / "export" / CURVE).stat().st_size > 5_000


@pytest.mark.parametrize("at", [2, 3])
def test_run_that_is_stopped_in_a_measurement_goes_on_to_the_same(
    at: int, measured: Path, photos: Path, noun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = tmp_path / "run", 0
    own = Validation.measure

    def stopping(self: Validation, trainer: Any) -> Evaluation:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return own(self, trainer)

    monkeypatch.setattr(Validation, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        personalize(photos, noun, adapter="lora", settings=MEASURED, output=folder)
    personalize(photos, noun, adapter="lora", settings=MEASURED, output=folder)
    assert logged(folder) == logged(measured)
    assert without_seconds(folder) == without_seconds(measured)
    assert read_manifest(folder / "export")["step"] == read_manifest(measured / "export")["step"]


def test_run_ends_when_it_no_longer_gains(
    photos: Path, noun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = {0: 0.1, 1: 0.5, 2: 0.6, 3: 0.5, 4: 0.3, 5: 0.2, 6: 0.15}

    def measure(self: Validation, trainer: Any) -> Evaluation:
        return Evaluation(trainer.step, identity[trainer.step], 0.3, 0.1)

    monkeypatch.setattr(Validation, "measure", measure)
    monkeypatch.setattr(Validation, "_measure_photos", lambda self, photos: (0.9, 0.1))
    settings = MEASURED | {"evaluation.every": 1, "evaluation.patience": 3}
    seen: list[Any] = []
    folder = tmp_path / "run"
    personalize(photos, noun, adapter="lora", settings=settings, output=folder, on_step=seen.append)
    assert [result.step for result in seen] == [1, 2, 3, 4, 5]
    assert seen[-1].terms["identity"] == 0.2
    assert seen[-1].checkpoint
    assert read_manifest(folder / "export")["step"] == 2
    assert read_manifest(folder / "exports" / "last")["step"] == 5


def test_lost_first_measurement_exports_the_last_step(
    photos: Path, noun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def stop(result: Any) -> None:
        if result.step == 3:
            (folder / "evaluations.jsonl").unlink()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        personalize(photos, noun, adapter="lora", settings=MEASURED, output=folder, on_step=stop)
    with pytest.warns(UserWarning, match="last step"):
        personalize(photos, noun, adapter="lora", settings=MEASURED, output=folder)
    assert read_manifest(folder / "export")["step"] == 6


def test_until_best_needs_no_steps() -> None:
    own = load_settings("look-forward", {"subject.class_noun": "vase"})
    ended = until_best(own, {})
    assert (ended.run.steps, ended.evaluation.every, ended.evaluation.patience) == (900, 37, 3)
    given = {"run.steps": 50, "evaluation.every": 5}
    kept = until_best(load_settings("look-forward", given), given)
    assert (kept.run.steps, kept.evaluation.every, kept.evaluation.patience) == (50, 5, 3)
    for falling in ({"optimizer.decay": 0.5}, {"optimizer.schedule": "cosine"}):
        with raises("settings-conflict", "optimizer"):
            until_best(load_settings("look-forward", falling), falling)


@pytest.mark.parametrize("noun", ["dog", "vase"])
def test_validation_prompts_are_none_of_the_benchmark(noun: str) -> None:
    scenes = validation_scenes("a/model", noun, 8)
    assert len(set(scenes)) == 8
    assert sum(scene.startswith("wearing") for scene in scenes) == (2 if noun == "dog" else 0)
    assert not any(scene in prompt for scene in scenes for prompt in OBJECT_PROMPTS + LIVE_PROMPTS)


def test_log_lines_are_json(measured: Path) -> None:
    for line in (measured / "evaluations.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == {"step", "identity", "prompt", "loss", "seconds", "crc32"}
