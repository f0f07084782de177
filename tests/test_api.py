"""The Python interface, on a tiny model: photos in, a personalised model out, the same every time."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lookforward
from errors import raises
from jobs import SETTINGS, exported, logged, tree
from lookforward import (
    LookforwardError,
    Personalized,
    StepResult,
    load_personalized,
    load_settings,
    personalize,
)
from lookforward.adapters import ADAPTERS
from lookforward.assembly.training import TrainingJob
from lookforward.config.reading import structure
from lookforward.data.subjects import read_subject
from lookforward.runs.folder import default_output, open_run

TERMS = {"timestep", "noise_loss", "prior_loss", "loss", "gradient"}
CRITIC_TERMS = {"critic_loss", "explained_variance", "q", "q_target", "reward", "value"}


@pytest.fixture
def train(tiny_model: Path, photos: Path, tmp_path: Path) -> Any:
    def call(name: str = "run", **given: Any) -> Personalized:
        settings = {**SETTINGS, "model.name": str(tiny_model), **{k: v for k, v in given.items() if "." in k}}
        options = {k: v for k, v in given.items() if "." not in k}
        return personalize(photos, "teapot", output=tmp_path / name, settings=settings, **options)

    return call


@pytest.mark.parametrize("recipe", ["look-forward", "dreambooth", "released"])
def test_photos_in_a_personalised_model_out(
    recipe: str, tiny_model: Path, photos: Path, tmp_path: Path, train: Any
) -> None:
    steps: list[StepResult] = []
    teapot = train(recipe=recipe, on_step=steps.append)
    folder = tmp_path / "run"
    assert teapot.run.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "class-images.png", "export", "metrics.jsonl", "model.json", "photos.json", "samples",
        "settings.toml",
    ]  # fmt: skip

    given = {**SETTINGS, "subject.photos": str(photos), "subject.class_noun": "teapot", "model.name": str(tiny_model)}
    settings = load_settings(recipe, given)
    assert open_run(folder).settings == settings == teapot.run.settings
    written = tomllib.loads((folder / "settings.toml").read_text())
    assert structure(written, "test") == settings  # every setting is there, the defaults too
    assert (settings.critic.name == "none") == (recipe == "dreambooth")

    rows = logged(folder)
    assert [row["step"] for row in rows] == [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert rows == [{"step": step.step, **step.terms} for step in steps] == teapot_rows(teapot)
    for row in rows:
        assert row.keys() == {"step"} | TERMS | (CRITIC_TERMS if recipe != "dreambooth" else set())
        assert np.isfinite(list(row.values())).all()

    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["step-000003.png", "step-000006.png"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert [step.step for step in steps if step.checkpoint] == [2, 4, 6]
    with Image.open(folder / "samples" / "step-000006.png") as sheet:
        assert sheet.width > 4 * 128
    assert exported(folder)["unet/diffusion_pytorch_model.safetensors"] != weights_of(tiny_model)

    images = teapot.generate("a photo of sks teapot in the jungle", count=2, seed=7)
    assert [(image.mode, image.size) for image in images] == [("RGB", (32, 32))] * 2
    again = load_personalized(folder).generate("a photo of sks teapot in the jungle", count=2, seed=7)
    assert [image.tobytes() for image in again] == [image.tobytes() for image in images]
    with raises("no-subject"):
        load_personalized(tiny_model).generate("a photo of {}")
    short = teapot.generate("a photo of {} in the jungle", count=2, seed=7)
    assert [image.tobytes() for image in short] == [image.tobytes() for image in images]
    assert images[0].tobytes() != images[1].tobytes()


def teapot_rows(teapot: Personalized) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in teapot.run.read_metrics()]


def weights_of(model: Path) -> bytes:
    return (model / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


def test_the_five_lines_of_the_readme(
    tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, "model.name": str(tiny_model)}

    from lookforward import personalize

    teapot = personalize(photos, class_noun="teapot", settings=settings)
    for i, image in enumerate(teapot.generate("a photo of sks teapot on the beach", count=4)):
        image.save(f"teapot-{i}.png")

    assert len(list(tmp_path.glob("teapot-*.png"))) == 4
    assert teapot.run.folder == Path("runs/teapot-0-look-forward")


def test_the_seed_decides_every_bit(train: Any, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(name, **{"run.seed": seed})
    first, same, other = (tmp_path / name for name in "abc")
    assert exported(first) == exported(same)
    assert logged(first) == logged(same)
    assert tree(first / "samples") == tree(same / "samples")
    assert exported(first).keys() == exported(other).keys()
    for part in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        assert exported(first)[part] != exported(other)[part]
    assert logged(first)[0]["timestep"] != logged(other)[0]["timestep"]


def test_watching_changes_nothing(train: Any, tmp_path: Path) -> None:
    """Samples and checkpoints draw on no chance that the training draws on."""
    train("watched")
    train("unwatched", **{"evaluation.sample_every": 0, "run.checkpoint_every": 1000})
    train("chosen", **{"run.export_every": 2})
    watched, unwatched = exported(tmp_path / "watched"), exported(tmp_path / "unwatched")
    assert exported(tmp_path / "chosen") == watched
    assert watched.pop("samples.png")
    for name in ("README.md", "SHA256SUMS"):  # the card of the one shows them
        assert watched.pop(name) != unwatched.pop(name)
    assert watched == unwatched
    assert logged(tmp_path / "watched") == logged(tmp_path / "unwatched")
    assert not (tmp_path / "unwatched" / "samples").exists()
    assert not (tmp_path / "watched" / "exports").exists()


@pytest.mark.parametrize("adapter", [spec.name for spec in ADAPTERS])
def test_an_export_of_an_earlier_step_is_that_of_a_shorter_run(adapter: str, train: Any, tmp_path: Path) -> None:
    word = (
        {} if adapter in ("full", "lora", "dora", "t-lora", "loha", "lokr", "oft") else {"subject.identifier": "<word>"}
    )
    train(
        "long", **{"adapter.name": adapter, "run.steps": 4, "run.export_every": 2, "evaluation.sample_every": 2}, **word
    )
    short = train("short", **{"adapter.name": adapter, "run.steps": 2, "evaluation.sample_every": 2}, **word)
    exports = tmp_path / "long" / "exports"
    assert [path.name for path in exports.iterdir()] == ["step-000002"]  # the last one's is the run's own
    early = tree(exports / "step-000002")
    assert early == tree(tmp_path / "short" / "export")
    assert early != tree(tmp_path / "long" / "export")
    train(
        "plain", **{"adapter.name": adapter, "run.steps": 4, "evaluation.sample_every": 2}, **word
    )  # exporting on the way changes nothing
    assert tree(tmp_path / "plain" / "export") == tree(tmp_path / "long" / "export")
    prompt = "a photo of <word> teapot" if word else "a photo of sks teapot"
    images = [model.generate(prompt)[0].tobytes() for model in (load_personalized(exports / "step-000002"), short)]
    assert images[0] == images[1]


@pytest.mark.parametrize("recipe", ["look-forward", "dreambooth", "released"])
def test_a_frozen_text_encoder_is_exported_as_it_was(recipe: str, train: Any, tmp_path: Path, tiny_model: Path) -> None:
    train(recipe=recipe, **{"adapter.train_text_encoder": False})
    part = "text_encoder/model.safetensors"
    assert exported(tmp_path / "run")[part] == (tiny_model / part).read_bytes()
    train("trained", recipe=recipe)
    assert exported(tmp_path / "trained")[part] != (tiny_model / part).read_bytes()


def test_what_is_not_trained_is_exported_as_it_was(train: Any, tmp_path: Path, tiny_model: Path) -> None:
    train()
    files = exported(tmp_path / "run")
    for name in ("vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"):
        assert files[name] == (tiny_model / name).read_bytes()


def test_a_list_of_photos_is_taken_in_its_order(train: Any, photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    settings = {**SETTINGS, "model.name": str(tiny_model), "subject.class_noun": "teapot"}
    files = sorted(photos.glob("*.png"))
    personalize(files, output=tmp_path / "list", settings=settings)
    personalize(files[::-1], output=tmp_path / "reversed", settings=settings)
    train("folder")
    assert exported(tmp_path / "list") == exported(tmp_path / "folder")
    assert exported(tmp_path / "list") != exported(tmp_path / "reversed")


@pytest.mark.parametrize(
    "settings", [{"objective.prior_weight": 0.0}, {"run.batch_size": 2, "model.precision": "bf16"}]
)
def test_other_settings_train_too(train: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    train(**settings)
    assert ("prior_loss" in logged(tmp_path / "run")[0]) == ("objective.prior_weight" not in settings)


@pytest.mark.parametrize(
    ("settings", "code", "fact"),
    [
        ({"setps": 3}, "setting-unknown", "run.steps"),
        ({"run.steps": "3"}, "setting-kind", "run.steps = '3'"),
        ({"run.steps": 0}, "setting-range", "run.steps = 0"),
        ({"recipe": "paper"}, "recipe-missing", "look-forward"),
        ({"recipe": "paper.toml"}, "recipe-missing", "paper.toml"),
        ({"model.name": "nowhere/at/all"}, "model-missing", "nowhere/at/all"),
        ({"model.device": "cuda:99"}, "device-unusable", "cuda:99"),
        ({"model.device": "abacus"}, "device-unusable", "abacus"),
        ({"data.resolution": 36}, "resolution-does-not-fit", "resolution = 36"),
        ({"run.seed": 2**70}, "setting-range", "run.seed"),
        ({"recipe": "dreambooth", "objective.reward": "dino"}, "reward-unused", "objective.reward = 'dino'"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    train: Any, tmp_path: Path, settings: dict[str, Any], code: str, fact: str
) -> None:
    with raises(code, fact):
        train(**settings)
    assert not (tmp_path / "run").exists()


def test_an_unfinished_or_absent_run_cannot_be_loaded(train: Any, tmp_path: Path) -> None:
    with raises("run-missing"):
        load_personalized(tmp_path / "run")

    def stop(result: StepResult) -> None:
        if result.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(on_step=stop)
    with raises("run-unfinished", tmp_path / "run") as caught:
        load_personalized(tmp_path / "run")
    assert "exports" not in str(caught.value)
    train()
    load_personalized(str(tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt):
        train("other", **{"run.export_every": 2}, on_step=stop)
    early = tmp_path / "other" / "exports" / "step-000002"
    with raises("run-unfinished", early):
        load_personalized(tmp_path / "other")
    assert load_personalized(early).source.name == "other-step-000002"


def test_two_processes_do_not_train_in_one_folder(train: Any, photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    given = {**SETTINGS, "subject.photos": str(photos), "subject.class_noun": "teapot", "model.name": str(tiny_model)}
    settings = load_settings("look-forward", given)
    subject = read_subject(photos, settings)
    first = iter(TrainingJob(tmp_path / "run", settings, subject))
    next(first)
    rows = logged(tmp_path / "run")
    with raises("run-locked", tmp_path / "run"):
        train()
    late = TrainingJob(tmp_path / "run", settings, subject)  # looked before the first one ended
    assert logged(tmp_path / "run") == rows
    assert len(list(first)) == 5
    assert not list(late)  # nothing was left to do
    assert len(logged(tmp_path / "run")) == 6

    other = tmp_path / "other"
    begun = TrainingJob(other, load_settings("look-forward", {**given, "run.seed": 1}), subject)
    train("other")
    with raises("run-differs", "run.seed was 0, now 1"):
        next(iter(begun))


def test_python_warns_of_what_the_command_line_prints(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    dog = tmp_path / "dog"
    shutil.copytree(photos, dog)
    (dog / "clip.mov").write_bytes(b"moov")
    given = {**SETTINGS, "run.steps": 1, "model.name": str(tiny_model), "adapter.rank": 4}
    with pytest.warns(UserWarning, match="not used") as warned:
        result = personalize(dog, "teapot", recipe="dreambooth", output=tmp_path / "run", settings=given)
    expected = [str(one.message) for one in warned if one.filename == __file__]
    assert tuple(expected) == result.notes
    assert any("not used: clip.mov" in note for note in expected)
    assert any("adapter.rank = 4 changes nothing" in note for note in expected)


@pytest.mark.parametrize(
    "given", [{"steps": 5, "settings": {"run.steps": 50}}, {"settings": {"run": {"steps": 5}, "run.steps": 50}}]
)
def test_two_values_for_one_setting_are_an_error(given: dict[str, Any], photos: Path) -> None:
    with raises("setting-twice", "run.steps", 5, 50):
        personalize(photos, "teapot", **given)


def test_a_recipe_may_name_the_class_noun(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('critic.name = "residual"\ncritic.weight = 1.0\nsubject.class_noun = "teapot"\n')
    model = personalize(
        photos, recipe=str(recipe), output=tmp_path / "run", settings={"model.name": str(tiny_model), **SETTINGS}
    )
    assert model.run.settings.subject.class_noun == "teapot"


def test_a_run_of_an_earlier_version_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("steps = 3\n")
    with raises("run-of-earlier-version", "config.toml"):
        load_personalized(tmp_path)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"steps": 0}, {"seed": 2**70}])
def test_what_cannot_be_drawn(train: Any, arguments: dict[str, int]) -> None:
    with pytest.raises(LookforwardError, match=next(iter(arguments))):
        train().generate("a teapot", **arguments)


@pytest.mark.parametrize("adapter", [spec.name for spec in ADAPTERS])
def test_a_run_is_named_after_photos_recipe_and_adapter(adapter: str) -> None:
    settings = structure(
        {"subject.photos": "some/dog.toml", "run.recipe": "mine/best.toml", "adapter.name": adapter}, "test"
    )
    assert default_output(settings) == Path(f"runs/dog-best{'' if adapter == 'full' else f'-{adapter}'}")


def test_every_public_name_is_there() -> None:
    for name in lookforward.__all__:
        assert getattr(lookforward, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing_such"):
        lookforward.nothing_such  # noqa: B018
