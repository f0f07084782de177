"""Damage in runs, exports and caches is noticed where they are used, and what can be done without it goes on."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from errors import raises
from exports import make_export
from jobs import SETTINGS
from lookforward import personalize
from lookforward.data.class_images import class_images
from lookforward.errors import LookforwardWarning
from lookforward.exports.load import load_export
from lookforward.files import write_json
from lookforward.runs.checkpoint import list_checkpoints
from lookforward.whole import (
    check_whole,
    write_sums,
)


def flip(path: Path, place: float, bit: int = 0) -> None:
    """Change one bit of a file, at a share of its length."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture(scope="module")
def lora(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_export(tmp_path_factory.mktemp("lora") / "lora", tiny_model, "lora")


def test_a_changed_export_is_refused(lora: Path, tmp_path: Path) -> None:
    (weights,) = lora.glob("*.safetensors")
    for number, name in enumerate((weights.name, "lookforward.json")):
        damaged = shutil.copytree(lora, tmp_path / str(number))
        flip(damaged / name, 0.9)
        with raises("damaged", name):
            load_export(damaged, "cpu")


def test_a_damaged_class_image_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path))
    drawn: list[int] = []

    def draw(prompts: list[str], seeds: list[int]) -> np.ndarray:
        drawn.extend(seeds)
        return np.stack([np.full((8, 8, 3), 10 * seed, np.uint8) for seed in seeds])

    first = class_images(draw, "a dog", 3, resolution=8, key="k")
    path = sorted(tmp_path.rglob("*.png"))[1]
    flip(path, 0.5)
    with pytest.warns(LookforwardWarning, match="is drawn again"):
        again = class_images(draw, "a dog", 3, resolution=8, key="k")
    np.testing.assert_array_equal(first, again)
    assert len(drawn) > 4  # with the images that it was drawn beside


def train(photos: Path, model: Path, output: Path, **more: object) -> None:
    personalize(photos, "teapot", output=output, settings={"model.name": str(model), **SETTINGS, **more})


def test_a_damaged_newest_checkpoint_is_passed_over(
    photos: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flipped, of another step, with `[]` as state, or with a NaN: the one before it is taken, to the same weights."""
    train(photos, tiny_model, tmp_path / "run", **{"run.checkpoint_every": 2})
    run = tmp_path / "run"
    expected = {p.name: p.read_bytes() for p in sorted((run / "export").rglob("*.safetensors"))}
    assert len(list_checkpoints(run / "checkpoints")) == 2

    def flipped(newest: Path) -> None:
        flip(newest / "state.safetensors", 0.7)

    def of_another_step(newest: Path) -> None:
        record = json.loads((newest / "state.json").read_text())
        write_json(newest / "state.json", record | {"step": record["step"] + 7})
        write_sums(newest)

    def no_state(newest: Path) -> None:
        (newest / "state.json").write_text("[]")
        write_sums(newest)

    for number, harm in enumerate((flipped, of_another_step, no_state)):
        copy = shutil.copytree(run, tmp_path / f"run-{number}")
        shutil.rmtree(copy / "export")
        newest = list_checkpoints(copy / "checkpoints")[-1]
        harm(newest)
        with pytest.warns(UserWarning, match="was passed over"):
            train(photos, tiny_model, copy, **{"run.checkpoint_every": 2})
        assert {p.name: p.read_bytes() for p in sorted((copy / "export").rglob("*.safetensors"))} == expected
        assert [p.name for p in (copy / "checkpoints").glob("damaged-*")] == [f"damaged-{newest.name}"]


def test_a_whole_run_is_found_whole(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        train(photos, tiny_model, tmp_path / "run")
    checks = check_whole(tmp_path / "run")
    assert {check.path.name for check in checks} >= {"export"}
    assert {check.state for check in checks} == {"whole"}
