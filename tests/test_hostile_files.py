"""Links, images and changed bytes from outside: refused, named, or shown as a row."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from errors import raises
from lookforward.benchmark.cell import Cell, read_cell, read_strip, write_cell
from lookforward.benchmark.datasets.custom_concept import read_custom_concept
from lookforward.benchmark.datasets.dreambench_plus import read_dreambench_plus
from lookforward.benchmark.images import broken_photos, photos_in
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.data.captions import read_beside
from lookforward.data.image_files import ImageError, opened_image
from lookforward.models.families import PAPER_MODEL, family_named, family_of_index
from lookforward.models.weight_files import local_folder, require_own_configs
from lookforward.report.paper import departures
from lookforward.runs.folder import Run
from lookforward_toybox.subjects import known_drawing, write_photos


def test_a_caption_that_links_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "01.txt").symlink_to("../secret")
    with raises("link-outside", "01.txt") as caught:
        read_beside(folder / "01.txt")
    assert "password" not in str(caught.value)
    (folder / "a.txt").write_text("a dog")
    (folder / "02.txt").symlink_to("a.txt")
    assert read_beside(folder / "02.txt") == b"a dog"
    (folder / "03.txt").symlink_to("03.txt")
    with raises("photo-unreadable", "03.txt"):
        read_beside(folder / "03.txt")


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (png(20_000, 20_000), "image-large"), (b"", "image-damaged"), (b"GIF89a", "image-damaged"),
        (png(3000, 3000)[:500], "image-damaged"), (b"%!PS-Adobe-3.0 EPSF-3.0", "image-damaged"),
    ],
    ids=["bomb", "empty", "cut", "cut PNG", "PostScript"],
)  # fmt: skip
def test_images_of_no_use_are_one_error(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(ImageError) as caught, opened_image(tmp_path / "image.png"):
        pytest.fail("it was opened")
    assert caught.value.code == code
    assert str(tmp_path / "image.png") in str(caught.value)


def test_a_benchmark_shows_no_photo_from_elsewhere(tmp_path: Path) -> None:

    folder = tmp_path / "grid"
    folder.mkdir()
    (tmp_path / "private.png").write_bytes(png(64, 64))
    (folder / "link.png").symlink_to("../private.png")
    (folder / "own.png").write_bytes(png(64, 64))
    listed = {"dog": [folder / "link.png", folder / ".." / "private.png", folder / "own.png"]}
    assert len(photos_in(folder, listed)("dog")) == 1
    assert len(photos_in(folder, {"dog": [tmp_path / "private.png"]})("dog")) == 1  # a data set elsewhere
    rows = [f"{one.where} {one.why}" for one in broken_photos(folder, listed, ["dog"])]
    assert ["link.png" in rows[0], "private.png" in rows[1], len(rows)] == [True, True, 2]


@pytest.mark.parametrize("name", ["instance_data_dir", "prompt_filename"])
def test_a_data_set_names_nothing_outside_itself(tmp_path: Path, name: str) -> None:

    folder = tmp_path / "concepts"
    folder.mkdir()
    entry = {"class_prompt": "dog", "instance_data_dir": "dog", "prompt_filename": "dog.txt", name: "../other"}
    (folder / "dataset.json").write_text(json.dumps([entry]))
    with raises("link-outside", "entry 1", "other"):
        read_custom_concept(folder)


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_a_changed_byte_of_a_log_is_noticed(tmp_path: Path, place: int) -> None:
    run = Run(tmp_path, Settings())
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 0.5})
    data = bytearray(run.metrics.read_bytes())
    data[place] ^= 1
    run.metrics.write_bytes(data)
    assert run.forget_after(3)
    assert all(row == {"step": row["step"], "loss": 0.5} for row in run.read_metrics())
    assert "crc32" not in str(run.read_metrics())


def test_cells_and_their_images_notice_a_changed_byte(tmp_path: Path) -> None:

    for name in ("cells", "images"):
        (tmp_path / name).mkdir()
    write_cell(tmp_path, Cell("dog", "best", 0, {"DINO": [0.25]}, 1.0, 2.0), np.zeros((1, 8, 8, 3), np.uint8))
    cell, strip = tmp_path / "cells" / "dog.best.0.json", tmp_path / "images" / "dog.best.0.png"
    assert read_cell(cell).scores == {"DINO": [0.25]}
    assert read_strip(tmp_path, "dog.best.0").shape == (1, 8, 8, 3)
    cell.write_bytes(cell.read_bytes().replace(b"0.25", b"0.75"))
    with raises("file-damaged", cell, "crc32"):
        read_cell(cell)
    data = bytearray(strip.read_bytes())
    data[45] ^= 1
    strip.write_bytes(data)
    with raises("images-unreadable", strip):
        read_strip(tmp_path, "dog.best.0")


def test_a_caption_file_may_be_called_as_a_pattern(tmp_path: Path) -> None:
    for part, name, content in (("captions", "**.txt", b"dog\na dog\n"), ("images", "a.png", png(64, 64))):
        (tmp_path / part / "object").mkdir(parents=True)
        (tmp_path / part / "object" / name).write_bytes(content)
    with raises("dataset-empty"):
        read_dreambench_plus(tmp_path)
    (tmp_path / "images" / "object" / "**.png").write_bytes(png(64, 64))
    assert [subject.class_noun for subject in read_dreambench_plus(tmp_path).subjects] == ["dog"]


def test_a_report_asks_the_hub_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", asked)
    family_of_index.cache_clear()
    assert family_named(PAPER_MODEL).name == "sd"
    found = departures("dreambooth", load_settings("dreambooth", {"optimizer.learning_rate": 1e-3}))
    assert any(one.startswith("optimizer.learning_rate 0.001 (") for one in found)


@pytest.mark.parametrize(
    ("name", "content"),
    [("scheduler/scheduler_config.json", '"owner/name"'), ("text_encoder/adapter_config.json", '{"a": "owner/name"}')],
)
def test_a_model_folder_names_no_other_model(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(content)
    with raises("model-incomplete", name):
        require_own_configs(tmp_path)
    with raises("model-incomplete", name):
        local_folder(tmp_path)


def test_a_card_beside_photos_is_of_the_world_or_none(tmp_path: Path) -> None:
    for card in ('{"name": ["vase-0"]}', '{"name": "vase-0", "edition": 1e9}', "[" * 5000, '{"name": "vase-0"}'):
        (tmp_path / "subject.json").write_text(card)
        assert (known_drawing(tmp_path) is not None) == (card == '{"name": "vase-0"}')
        write_photos("vase-0", tmp_path, count=1)  # what was there before is looked at first
