"""lookforward without Toybox asks for another model; with it, the bundle answers all that the library asks."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from errors import raises
from jobs import Command
from lookforward.assembly.evaluators import encoder_sources
from lookforward.benchmark.datasets.find import find_dataset
from lookforward.bundle import BUNDLED, TOYBOX, bundled_model, find_bundle, known_model, present_name, require_bundle
from lookforward.config.recipe import families_of, load_settings
from lookforward.exports.load import model_hash
from lookforward.models.load_pipeline import build_pipeline


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """lookforward_toybox cannot be imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "lookforward_toybox"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lookforward_toybox", None)


@pytest.mark.usefixtures("missing")
def test_without_toybox_another_model_is_asked_for(photos: Path, tiny_model: Path, command_line: Command) -> None:
    assert find_bundle() is None
    for ask in (require_bundle, lambda: build_pipeline(TOYBOX, "cpu"), lambda: find_dataset(TOYBOX)):
        with raises("toybox-missing", "lookforward[toybox]", "--model"):
            ask()
    assert bundled_model(str(tiny_model)) is known_model(TOYBOX) is None
    for words in (("train", photos, "--class-noun", "teapot", "--dry-run"), ("toybox", "photos", "teapot-0")):
        status, _, err = command_line(*words)
        assert (status, "--model" in err) == (2, True), err


def test_an_error_inside_toybox_is_not_taken_for_its_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bundle", "models"):
        monkeypatch.delitem(sys.modules, f"lookforward_toybox.{name}", raising=False)
        monkeypatch.delattr(sys.modules["lookforward_toybox"], name, raising=False)
    monkeypatch.setitem(sys.modules, "tomllib", None)
    with pytest.raises(ModuleNotFoundError, match="tomllib"):
        find_bundle()


def test_toybox_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, lookforward.cli; print(any(n.startswith('lookforward_toybox') for n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_its_subjects_are_those_of_the_data_sets() -> None:
    bundle = require_bundle()
    counts = {name: len(bundle.subjects(name)) for name in (*bundle.DATASETS, "toybox-all")}
    assert counts == {"toybox": 20, "toybox-development": 10, "toybox-all": 30}
    names = [subject.name for subject in bundle.subjects()]
    assert bundle.describe_subjects([*names, "stranger"]).count(";") == 2


def test_each_model_is_called_as_the_library_knows_it() -> None:
    models = require_bundle().MODELS
    assert tuple(models) == BUNDLED
    assert models[TOYBOX] in [models[name] for name in BUNDLED[1:]]
    for name in BUNDLED[1:]:
        assert models[name].name == name
        assert load_settings("dreambooth", {"model.name": name}).data.resolution == models[name].size
    assert bundled_model("toybox-sd") is models["toybox-sd"]
    for name in BUNDLED[1:]:
        if models[name].present:
            assert model_hash(build_pipeline(name, "cpu")) == models[name].digest


def test_a_model_without_weights_is_named_and_those_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    models = require_bundle().MODELS
    monkeypatch.setitem(models, "toybox-128", replace(models["toybox-128"], pipeline=tmp_path / "absent"))
    for ask in (lambda: build_pipeline("toybox-128", "cpu"), lambda: encoder_sources("toybox-128")):
        with raises("toybox-weights-missing", "toybox-128", "--model toybox, toybox-sd"):
            ask()


def test_recipes_speak_to_all_bundled_models_and_to_each(tmp_path: Path) -> None:
    assert families_of("toybox-sd") == ("sd", "toybox", "toybox-sd")
    assert families_of("toybox-128") == ("sd3", "toybox", "toybox-128")
    mine = tmp_path / "mine.toml"
    mine.write_text("[family.toybox]\ncritic.weight = 0.5\n[family.toybox-128]\ncritic.weight = 0.25\n")
    weights = {name: load_settings(str(mine), {"model.name": name}).critic.weight for name in BUNDLED[1:]}
    assert weights == {"toybox-sd": 0.5, "toybox-128": 0.25}


def test_what_toybox_was_is_called_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    models = require_bundle().MODELS
    digest = models["toybox-sd"].digest
    assert present_name(TOYBOX, digest) == TOYBOX
    monkeypatch.setitem(models, TOYBOX, models["toybox-128"])  # as once its weights are shipped
    assert present_name(TOYBOX, digest) == "toybox-sd"
    for name, other in ((TOYBOX, ""), (TOYBOX, "0123456789"), ("elsewhere", digest)):
        assert present_name(name, other) == name
