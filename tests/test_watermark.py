"""The invisible watermark: where it is put, where it is looked for, and that its absence is noted."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exports import make_export
from jobs import Command
from lookforward import load_personalized
from lookforward.assembly.marking import marked, watermark_notes
from lookforward.exports.png import read_metadata
from lookforward.provenance import watermark
from lookforward.provenance.watermark import ENOUGH, MISSING, SMALLEST, VIEWS, detect, embed
from lookforward_toybox.subjects import reference_photos

NAMED: dict[str, Any] = {"subject.identifier": "zwx"}


class Fake:
    """Stands for the package: it marks an image by one level of green more, and finds the bits where green is odd."""

    seen: list[tuple[int, int]]

    def __init__(self) -> None:
        self.seen = []

    def set_watermark(self, kind: str, bits: list[int]) -> None:
        assert (kind, len(bits)) == ("bits", 32)
        self.bits = bits

    def encode(self, image: np.ndarray, method: str) -> np.ndarray:
        self.seen.append(image.shape[:2])
        return image + np.array([0, 1, 0], np.uint8)

    def decode(self, image: np.ndarray, method: str) -> np.ndarray:
        self.seen.append(image.shape[:2])
        own = watermark._MESSAGE
        return own if np.median(image[..., 1]) % 2 else 1 - own


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    library = SimpleNamespace(WatermarkEncoder=lambda: made, WatermarkDecoder=lambda *_: made)
    monkeypatch.setattr(watermark, "_library", lambda: library)
    return made


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark, "_library", lambda: None)


@pytest.fixture(scope="module")
def lora(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_export(tmp_path_factory.mktemp("lora") / "style", tiny_model, "lora", **NAMED)


def grey(*size: int) -> np.ndarray:
    return np.full((*size, 3), 100, np.uint8)


@pytest.mark.parametrize(
    ("size", "network"), [((256, 300), (256, 300)), ((1024, 1024), (256, 256)), ((2048, 1024), (512, 256))]
)
def test_large_images_are_marked_by_a_smaller_copy(fake: Fake, size: tuple[int, int], network: tuple[int, int]) -> None:
    image = grey(*size)
    assert (embed(image) == image + np.array([0, 1, 0], np.uint8)).all()
    assert fake.seen == [network]
    assert (image == 100).all()


def test_it_is_looked_for_at_sizes_that_the_network_takes(fake: Fake) -> None:
    for size in ((40, 60), (256, 256), (362, 362), (512, 700), (1024, 1024), (3000, 2000)):
        fake.seen.clear()
        found = detect(grey(*size))
        assert found is not None
        assert (found.bits, found.found) == (0, False)
        assert all(SMALLEST <= min(side) < VIEWS[1] for side in fake.seen), size
        assert len(fake.seen) == (0 if size == (40, 60) else 2)
        found = detect(grey(*size) + np.uint8(1))
        assert found is not None
        assert found.found == (size != (40, 60))
    assert ENOUGH < 32


def test_small_images_carry_none(fake: Fake) -> None:
    small = grey(255, 255)
    assert embed(small) is small
    assert marked([small], wanted=True) == ([small], False)
    assert marked([grey(256, 256)], wanted=True)[1]
    assert not marked([grey(256, 256)], wanted=False)[1]
    assert fake.seen == [(256, 256)]


def test_generate_marks_images_unless_it_is_switched_off(
    command_line: Command, fake: Fake, lora: Path, tmp_path: Path
) -> None:
    words = [lora, "zwx", "--count", 1, "--steps", 1, "--guidance", 1, "--resolution", 256]
    assert command_line("generate", *words, "--output", tmp_path / "on")[0] == 0
    assert len(fake.seen) == 1
    assert command_line("generate", *words, "--no-watermark", "--output", tmp_path / "off")[0] == 0
    assert len(fake.seen) == 1
    on, off = (tmp_path / name / "zwx-0.png" for name in ("on", "off"))
    assert (read_metadata(on).watermark, read_metadata(off).watermark) == (True, False)
    with Image.open(on) as one, Image.open(off) as other:
        difference = np.asarray(one).astype(int) - np.asarray(other)
    assert (difference == [0, 1, 0]).all() or set(np.unique(difference)) <= {0, 1, -255}  # 255 goes over to 0
    code, output, _ = command_line("inspect", on)
    assert (code, "watermark  " in output) == (0, True)


@pytest.mark.usefixtures("missing")
def test_a_missing_package_is_noted_once(command_line: Command, lora: Path, tmp_path: Path) -> None:
    words = [lora, "zwx", "--count", 2, "--steps", 1, "--guidance", 1, "--output", tmp_path / "images"]
    assert MISSING not in command_line("generate", *words)[1]  # too small for one
    status, output, _ = command_line("generate", *words, "--resolution", 256)
    assert (status, output.count(MISSING)) == (0, 1)
    assert MISSING not in command_line("generate", *words, "--resolution", 256, "--no-watermark")[1]
    with pytest.warns(UserWarning, match="lookforward\\[watermark\\]"):
        load_personalized(lora).generate("zwx", steps=1, guidance=1.0, resolution=256)
    image = grey(256, 256)
    assert embed(image) is image
    assert detect(image) is None
    assert "lookforward[watermark]" in command_line("inspect", next((tmp_path / "images").glob("zwx-0.png")))[1]
    assert watermark_notes(256) == (MISSING,)
    assert watermark_notes(255) == watermark_notes(512, wanted=False) == ()


def test_the_package_itself_marks_and_finds() -> None:
    pytest.importorskip("imwatermark")
    photo: Any = Image.fromarray(reference_photos("teapot-0", count=1, size=128)[0]).resize((256, 256))
    image = np.asarray(photo)
    found, clean = embed(image), detect(image)
    assert clean is not None
    assert not clean.found
    assert 0 < np.abs(found.astype(int) - image).mean() < 4
    file = io.BytesIO()
    Image.fromarray(found).save(file, "JPEG", quality=75)
    with Image.open(file) as jpeg:
        views = [found, np.asarray(jpeg), np.asarray(Image.fromarray(found).resize((512, 512)))]
    for view in views:
        again = detect(view)
        assert again is not None
        assert again.found
