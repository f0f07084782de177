"""Class images are drawn once, kept, and drawn again where anything they depend on differs."""

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image

from conftest import make_pipeline
from errors import raises
from jobs import draw_class_images, save_class_images, server
from lookforward.data.class_images import cache_folder
from lookforward.models import sampling
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.sampling import fingerprint

SETTINGS: dict[str, Any] = {"steps": 2, "guidance": 3.0, "resolution": 32}


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return make_pipeline()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def drawn(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that were drawn so far."""
    seeds: list[int] = []
    draw = sampling.draw_images

    def count(pipeline: Any, prompts: Any, some: list[int], **settings: Any) -> Any:
        seeds.extend(some)
        return draw(pipeline, prompts, some, **settings)

    monkeypatch.setattr(sampling, "draw_images", count)
    return seeds


def images_in(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.png"))


def test_what_was_drawn_is_not_drawn_again(pipeline: StableDiffusionPipeline, drawn: list[int], cache: Path) -> None:
    first = draw_class_images(pipeline, "a photo of dog", 4, **SETTINGS)
    assert first.shape == (4, 32, 32, 3)
    assert first.dtype == np.uint8
    assert drawn == [0, 1, 2, 3]
    assert len({image.tobytes() for image in first}) == 4
    again = draw_class_images(pipeline, "a photo of dog", 4, **SETTINGS)
    assert (first == again).all()
    assert drawn == [0, 1, 2, 3]
    assert [path.name for path in images_in(cache)] == [f"{i:05d}.png" for i in range(4)]
    assert (draw_class_images(pipeline, "a photo of dog", 2, **SETTINGS) == first[:2]).all()
    assert drawn == [0, 1, 2, 3]


def test_a_larger_count_adds_to_a_smaller(pipeline: StableDiffusionPipeline, drawn: list[int], cache: Path) -> None:
    few = draw_class_images(pipeline, "a photo of dog", 4, **SETTINGS)
    many = draw_class_images(pipeline, "a photo of dog", 8, **SETTINGS)
    assert (many[:4] == few).all()
    assert drawn == list(range(8))


def test_every_bit_is_the_same_whatever_was_there_before(
    pipeline: StableDiffusionPipeline, drawn: list[int], cache: Path
) -> None:
    """A process may be killed between two images; counts may grow by steps of any size."""
    whole = draw_class_images(pipeline, "a photo of dog", 7, **SETTINGS)
    files = {path.name: path.read_bytes() for path in images_in(cache)}
    for lost in ([0], [1, 2, 3], [5], [0, 6], range(8)):
        for i in lost:
            images_in(cache)[0].with_name(f"{i:05d}.png").unlink(missing_ok=True)
        if len(files) > len(images_in(cache)) == 0:
            draw_class_images(pipeline, "a photo of dog", 1, **SETTINGS)
            draw_class_images(pipeline, "a photo of dog", 3, **SETTINGS)
            draw_class_images(pipeline, "a photo of dog", 5, **SETTINGS)
        assert (draw_class_images(pipeline, "a photo of dog", 7, **SETTINGS) == whole).all()
        assert {path.name: path.read_bytes() for path in images_in(cache)} == files


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n", b"text", "half", "other size"])
def test_a_damaged_image_is_drawn_again(
    pipeline: StableDiffusionPipeline, drawn: list[int], cache: Path, damage: bytes | str
) -> None:
    whole = draw_class_images(pipeline, "a photo of dog", 4, **SETTINGS)
    path = images_in(cache)[2]
    content = path.read_bytes()
    match damage:
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "other size":
            Image.new("RGB", (8, 8)).save(path)
        case bytes():
            path.write_bytes(damage)
    assert (draw_class_images(pipeline, "a photo of dog", 4, **SETTINGS) == whole).all()
    assert path.read_bytes() == content


@pytest.mark.parametrize("changed", ["prompt", "steps", "guidance", "weights", "schedule"])
def test_other_settings_and_weights_have_images_of_their_own(drawn: list[int], cache: Path, changed: str) -> None:
    pipeline, prompt, settings = make_pipeline(), "a photo of dog", dict(SETTINGS)
    first = draw_class_images(pipeline, prompt, 4, **settings)
    match changed:
        case "prompt":
            prompt = "a photo of vase"
        case "steps":
            settings["steps"] = 3
        case "guidance":
            settings["guidance"] = 3.5
        case "weights":
            with torch.no_grad():
                pipeline.text_encoder.get_parameter("final_layer_norm.weight")[0] += 1
        case _:
            pipeline = make_pipeline(prediction="v_prediction")
    second = draw_class_images(pipeline, prompt, 4, **settings)
    assert drawn == [0, 1, 2, 3] * 2
    assert not (first == second).all()
    assert len(images_in(cache)) == 8
    draw_class_images(make_pipeline(), "a photo of dog", 4, **SETTINGS)
    assert len(drawn) == 8


def test_the_fingerprint_is_of_the_model_not_of_its_folder(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    one, other = load_pipeline(tiny_model), load_pipeline(tmp_path / "copy")
    assert fingerprint(one) == fingerprint(other)
    for part in ("unet", "vae", "text_encoder"):
        weight = next(getattr(other, part).parameters())
        before = fingerprint(other)
        with torch.no_grad():
            weight.flatten()[0] += 1e-3
        assert fingerprint(other) != before


def test_the_fingerprint_is_not_of_the_sampler() -> None:
    one, other = make_pipeline(), make_pipeline()
    other.scheduler = EulerDiscreteScheduler.from_config(one.scheduler.config, timestep_spacing="trailing")
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(make_pipeline(prediction="v_prediction")) != fingerprint(one)


def test_a_full_disk_says_where(
    pipeline: StableDiffusionPipeline, drawn: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with raises("disk-full", cache / "class-images", "LOOKFORWARD_CACHE"):
            draw_class_images(pipeline, "a photo of dog", 2, **SETTINGS)
    assert not images_in(cache)
    assert draw_class_images(pipeline, "a photo of dog", 2, **SETTINGS).shape == (2, 32, 32, 3)


def test_a_cache_that_is_a_file(pipeline: StableDiffusionPipeline, cache: Path) -> None:
    cache.write_text("")
    with raises("not-writable", cache, "LOOKFORWARD_CACHE"):
        draw_class_images(pipeline, "a photo of dog", 2, **SETTINGS)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOOKFORWARD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lookforward"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lookforward"


def test_two_processes_at_once_draw_the_same(tiny_model: Path, tmp_path: Path) -> None:
    results = [tmp_path / f"{i}.npy" for i in range(3)]
    processes = server()
    running = [
        processes.Process(target=save_class_images, args=(tmp_path / "cache", tiny_model, result, 12, SETTINGS))
        for result in results
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
        assert process.exitcode == 0
    first, *others = (np.load(result) for result in results)
    assert first.shape == (12, 32, 32, 3)
    assert all((first == other).all() for other in others)
    assert len(list((tmp_path / "cache").rglob("*"))) == 2 + 12  # two folders, no half images
