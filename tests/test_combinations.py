"""Options together: what one of them keeps or draws must not depend on another without a word."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import diffusers
import pytest

from conftest import make_pipeline, save_image
from errors import raises
from jobs import SETTINGS, logged
from lookforward import personalize
from lookforward.assembly import build
from lookforward.assembly.best_step import BestStep
from lookforward.assembly.class_images import build_class_images
from lookforward.assembly.unused import unused_settings
from lookforward.config.recipe import load_settings, until_best
from lookforward.data.subjects import read_subject
from lookforward.models.encoding_cache import EncodingCache
from lookforward.models.policy import DiffusionPolicy
from lookforward.runs.folder import Run
from lookforward.runs.step_choice import Evaluation, Scale, write_evaluations


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def options(tiny_model: Path) -> dict[str, Any]:
    return {"model.name": str(tiny_model), **SETTINGS, "evaluation.sample_every": 0, "subject.class_noun": "teapot"}


def test_a_critic_that_rests_and_micro_batches_go_on_exactly(
    options: dict[str, Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options | {
        "adapter.name": "lora", "adapter.train_text_encoder": False, "critic.every": 3, "run.accumulate": 2,
        "optimizer.ema": 0.9, "critic.warmup": 1,
    }  # fmt: skip
    together: list[tuple[str, ...]] = []
    encode = DiffusionPolicy.encode_prompts

    def noted(policy: DiffusionPolicy, prompts: Any) -> Any:
        together.append(tuple(prompts))
        return encode(policy, prompts)

    def stop(result: Any) -> None:
        if result.step == 4:
            raise StopError

    personalize(photos, settings=asked, output=tmp_path / "straight")
    with pytest.raises(StopError):
        personalize(photos, settings=asked, output=tmp_path / "stopped", on_step=stop)
    monkeypatch.setattr(DiffusionPolicy, "encode_prompts", noted)
    personalize(photos, settings=asked, output=tmp_path / "stopped")
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")
    pair = ("a photo of sks teapot", "a photo of teapot")
    assert pair in together
    assert (pair[1],) not in together  # always encoded beside the same prompts, on which last bits depend


def test_micro_batches_are_not_for_baselines(options: dict[str, Any], photos: Path) -> None:
    own = {"objective.reward": "look-forward", "run.batch_size": 2}
    sizes = []
    for accumulate in (1, 3):
        settings = load_settings("draft", options | own | {"run.accumulate": accumulate})
        sizes.append(build(settings, read_subject(photos, settings)).trainer.batch_size)
    assert sizes == [2, 2]  # which is how many class images join a step


def test_class_images_are_of_the_parts_in_low_precision(
    options: dict[str, Any], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []

    def keep(*_: Any, key: str, **__: Any) -> Any:
        keys.append(key)
        raise StopError

    monkeypatch.setattr("lookforward.assembly.class_images.class_images", keep)
    low = {"model.weights": "bf16", "model.precision": "bf16", "adapter.train_text_encoder": False}
    for adapter in ("lora", "full"):  # of which the one leaves the denoiser as it is, and the other does not
        settings = load_settings("look-forward", options | low | {"adapter.name": adapter})
        with pytest.raises(StopError):
            build_class_images(settings, read_subject(photos, settings), make_pipeline())
    assert keys[0] != keys[1]


def test_encodings_are_of_the_libraries_that_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = DiffusionPolicy(make_pipeline())
    before = EncodingCache(policy, "model", "fp32")._path("prompts", ["a"])
    assert EncodingCache(policy, "model", "fp32")._path("prompts", ["a"]) == before
    monkeypatch.setattr(diffusers, "__version__", "0.0")
    assert EncodingCache(policy, "model", "fp32")._path("prompts", ["a"]) != before


def test_a_run_knows_its_own_class_images_again(options: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "teapots"
    own.mkdir()
    for i in range(3):
        save_image(own / f"{i}.png", i, 32)
    asked = options | {"data.class_folder": str(own), "adapter.name": "lora"}

    def stop(result: Any) -> None:
        if result.step == 3:
            raise StopError

    with pytest.raises(StopError):
        personalize(photos, settings=asked, output=tmp_path / "run", on_step=stop)
    (tmp_path / "teapots" / "2.png").rename(tmp_path / "kept.png")
    with raises("run-differs", "class images", "data.class_folder"):
        personalize(photos, settings=asked, output=tmp_path / "run")
    (tmp_path / "kept.png").rename(tmp_path / "teapots" / "2.png")
    result = personalize(photos, settings=asked, output=tmp_path / "run")
    assert result.run.finished
    result.run.require_photos(read_subject(photos, result.run.settings).digests)  # as scoring does


def test_an_end_that_is_never_looked_for_is_refused(options: dict[str, Any]) -> None:
    given = options | {"evaluation.every": 0}
    with raises("settings-conflict", "--until-best", "evaluation.every"):
        until_best(load_settings("look-forward", given), given)


def test_sampler_steps_of_a_measurement_are_checked_before_the_run(options: dict[str, Any], photos: Path) -> None:
    settings = load_settings("look-forward", options | {"evaluation.every": 3, "evaluation.validation_steps": 5000})
    with raises("steps-out-of-range", "evaluation.validation_steps"):
        build(settings, read_subject(photos, settings))


@pytest.mark.parametrize(("patience", "said"), [(1, True), (2, True), (0, False)])
def test_patience_that_no_run_can_try_is_named(
    patience: int, said: bool, options: dict[str, Any], photos: Path
) -> None:
    asked = options | {"evaluation.every": 3, "evaluation.images": 1, "evaluation.patience": patience}  # steps 3 and 6
    settings = load_settings("look-forward", asked)
    notes = unused_settings(settings, asked, read_subject(photos, settings))
    assert any("evaluation.patience" in note for note in notes) == said


def test_an_end_is_looked_for_as_a_recipe_of_ones_own_says(tmp_path: Path, tiny_model: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text('base = "look-forward"\n[evaluation]\nevery = 7\npatience = 2\n', encoding="utf-8")
    settings = load_settings(str(recipe), {"model.name": str(tiny_model)})
    own = until_best(settings, {})
    assert (own.evaluation.every, own.evaluation.patience) == (7, 2)
    assert own.run.steps == 3 * settings.run.steps


def test_a_word_alone_remembers_no_class(options: dict[str, Any], photos: Path) -> None:
    asked = options | {"adapter.name": "textual-inversion", "objective.prior_weight": 0.5}
    settings = load_settings("look-forward", asked)
    notes = unused_settings(settings, asked, read_subject(photos, settings))
    assert any("objective.prior_weight" in note for note in notes)


def test_a_run_does_not_end_within_its_warm_up(options: dict[str, Any], tmp_path: Path) -> None:
    falling = [Evaluation(step, 0.1 if step == 0 else 0.5 - step / 100, 0.3, 0.0) for step in range(0, 20, 2)]
    ends = {}
    for warmup in (0, 6):
        asked = {"run.steps": 20, "critic.warmup": warmup, "evaluation.every": 2, "evaluation.patience": 2}
        settings = load_settings("look-forward", options | asked)
        scales = Mock(scale=lambda untouched: Scale((untouched.identity, 0.9), (untouched.prompt, 0.1)))
        best, run = BestStep(settings, scales), Run(tmp_path, settings)
        for count in range(1, len(falling) + 1):
            write_evaluations(run.evaluations, falling[:count])
            if best.enough(run):
                ends[warmup] = falling[count - 1].step
                break
    assert ends == {0: 6, 6: 12}


def test_a_folder_of_class_images_that_is_not_used_is_not_counted(options: dict[str, Any], photos: Path) -> None:
    asked = options | {"data.class_folder": "nowhere", "objective.preservation": "output", "adapter.name": "lora"}
    settings = load_settings("look-forward", asked)
    notes = build(settings, read_subject(photos, settings), given=asked).notes
    (note,) = [note for note in notes if "nowhere" in note]
    assert "changes nothing" in note
