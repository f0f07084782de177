"""The two distributions as they are published: one version, and nothing missing from the wheels."""

import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Wheel = tuple[Message, set[str]]


def build_wheel(project: Path, folder: Path) -> Wheel:
    """The metadata of a wheel and the names of its files."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(metadata).decode()), set(names)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build_wheel(ROOT, tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def toybox(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return build_wheel(ROOT / "toybox", tmp_path_factory.mktemp("toybox"))


def sources(package: Path) -> set[str]:
    """Every file of a package, as a wheel names it."""
    paths = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(package.parent)) for path in paths}


def test_each_wheel_holds_its_package_and_no_other(library: Wheel, toybox: Wheel) -> None:
    for (_, names), package in ((library, ROOT / "src/lookforward"), (toybox, ROOT / "toybox/src/lookforward_toybox")):
        packed = {name for name in names if ".dist-info/" not in name}
        assert packed == sources(package)
        assert {re.sub(r".*\.dist-info/", "", name) for name in names} >= {"licenses/LICENSE", "licenses/NOTICE"}


def test_what_is_not_python_is_there(library: Wheel, toybox: Wheel) -> None:
    assert {"lookforward/py.typed", "lookforward/config/recipes/best.toml"} <= library[1]
    assert any(name.endswith("pipeline/unet/diffusion_pytorch_model.safetensors") for name in toybox[1])
    assert {"lookforward_toybox/py.typed", "lookforward_toybox/defaults.toml"} <= toybox[1]


def test_both_have_one_version_and_toybox_needs_exactly_that(library: Wheel, toybox: Wheel) -> None:
    version = library[0]["Version"]
    assert re.match(r"\d+\.\d+", version)
    assert toybox[0]["Version"] == version
    assert toybox[0].get_all("Requires-Dist") == [f"lookforward=={version}"]
    assert "lookforward-toybox; extra == 'toybox'" in (library[0].get_all("Requires-Dist") or [])


def test_pre_commit_runs_the_pinned_ruff() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = re.findall(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"rev: v(.+)", hooks) == pinned


def test_workflow_tests_the_versions_of_python_that_are_promised() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    tested = re.findall(r'"([0-9.]+)"', re.findall(r"python: \[(.*)\]", workflow)[0])
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert tested == promised
