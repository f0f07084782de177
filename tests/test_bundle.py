"""lookforward without Toybox asks for another model; with it, the bundle answers all that the library asks."""

import subprocess
import sys
from pathlib import Path

import pytest

from errors import raises
from jobs import Command
from lookforward.benchmark.datasets.find import find_dataset
from lookforward.bundle import TOYBOX, bundle_of, find_bundle, require_bundle
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
    assert bundle_of(str(tiny_model)) is None
    for words in (("train", photos, "--class-noun", "teapot", "--dry-run"), ("toybox", "photos", "teapot-0")):
        status, _, err = command_line(*words)
        assert (status, "--model" in err) == (2, True), err


def test_an_error_inside_toybox_is_not_taken_for_its_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lookforward_toybox.bundle", raising=False)
    monkeypatch.delattr(sys.modules["lookforward_toybox"], "bundle", raising=False)
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
