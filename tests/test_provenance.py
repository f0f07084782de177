"""Every image says that it is generated: in its metadata, by one writer."""

import ast
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exports import make_export
from lookforward import load_personalized
from lookforward.exports.png import read_metadata
from lookforward.provenance.origin import Origin, bare_xmp, read_xmp
from lookforward.provenance.save import GeneratedImage, save_image

ROOT = Path(__file__).parents[1]
PIXELS = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
ORIGIN = Origin(
    "image", model='a/"b" <é>\n', prompts=["a & 'b' \U0001f600"], seeds=[7], settings={"steps": 5}, run="dog"
)
NAMED: dict[str, Any] = {"subject.identifier": "zwx"}
# Writers of pictures beside `save_image`: file, and what it writes
OTHERS = {
    "src/lookforward/provenance/save.py": "the writer itself",
    "src/lookforward/exports/card.py": "a plot",
    "src/lookforward/report/plots.py": "plots",
    "src/lookforward/assembly/auto_masks.py": "masks of photos",
    "src/lookforward/studio/charts.py": "plots",
    "src/lookforward/studio/masks.py": "a mask of a photo",
    "src/lookforward/studio/subjects.py": "a small copy of a photo",
    "src/lookforward/examples/rewards.py": "into memory, to measure its size",
    "src/lookforward/adapters/full.py": "a tokenizer",
    "toybox/src/lookforward_toybox/subjects.py": "drawn photos, which stand for a user's own",
    "toybox/src/lookforward_toybox/training_commands.py": "a plot",
    "toybox/src/lookforward_toybox/comparisons/pages.py": "plots",
    "toybox/src/lookforward_toybox/training/tokenizer.py": "a tokenizer",
    "toybox/src/lookforward_toybox/training/loop.py": "training's state",
    "toybox/src/lookforward_toybox/training/photo_data.py": "squares of photos, an array to train on",
}
WRITING = {"save", "savefig", "imsave", "imwrite", "tofile"}


def writers(source: str) -> bool:
    """Whether a file calls a method that may write an image."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(isinstance(call.func, ast.Attribute) and call.func.attr in WRITING for call in calls)


def test_one_function_writes_images() -> None:
    assert writers("Image.fromarray(x).save(path)")
    assert not writers("save_image(x, path, origin)")
    files = [path for part in ("src", "toybox/src") for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 100
    found = {path.relative_to(ROOT).as_posix() for path in files if writers(path.read_text(encoding="utf-8"))}
    assert found == set(OTHERS), "write images with lookforward.provenance.save.save_image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_says_where_it_comes_from(kind: str) -> None:
    file = io.BytesIO()
    save_image(PIXELS, file, ORIGIN, format=kind, text={"parameters": "hällo"})
    with Image.open(file) as image:
        source, record = read_xmp(image.info["xmp"])
        assert source == "trainedAlgorithmicMedia"
        assert Origin(**record) == ORIGIN
        if kind == "PNG":
            assert image.info["parameters"] == "hällo"
            assert (np.asarray(image) == PIXELS).all()
        else:
            assert image.getexif()[0x0131] == "lookforward"


def test_a_photo_says_nothing_and_a_thumbnail_only_that_it_is_generated() -> None:
    photo, small = io.BytesIO(), io.BytesIO()
    save_image(PIXELS, photo, None, format="PNG")
    save_image(PIXELS, small, "generated", format="JPEG")
    with Image.open(photo) as image:
        assert not image.info
    with Image.open(small) as image:
        assert read_xmp(image.info["xmp"]) == ("trainedAlgorithmicMedia", {})


def test_metadata_that_are_no_xmp_of_ours_are_read_as_none() -> None:
    assert read_xmp(b"\xff\xfe no packet") == ("", {})
    packet = bare_xmp().replace("/></rdf:RDF>", ' lookforward:origin="[[[["/></rdf:RDF>')
    assert read_xmp(packet) == ("trainedAlgorithmicMedia", {})
    assert read_xmp('lookforward:origin="[1]"') == ("", {})


def test_pillow_saves_a_generated_image_with_its_origin(tmp_path: Path) -> None:
    image = GeneratedImage.of(PIXELS, ORIGIN, {"parameters": "p"})
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.gif")  # has no place for it
    copy.deepcopy(image).save(tmp_path / "b.png")
    image.resize((8, 8)).save(tmp_path / "c.png")
    with Image.open(tmp_path / "a.png") as again:
        assert read_xmp(again.info["xmp"])[1]["seeds"] == [7]
    with pytest.raises(ValueError):
        image.save(tmp_path / "a.nothing")


def test_images_from_python_and_their_copies_as_jpeg_say_how_they_were_drawn(tiny_model: Path, tmp_path: Path) -> None:
    lora = make_export(tmp_path / "style", tiny_model, "lora", **NAMED)
    image = load_personalized(lora).generate("a photo of zwx teapot", seed=3, steps=2, guidance=1.0)[0]
    image.save(tmp_path / "image.png")
    image.save(tmp_path / "image.jpg")
    metadata = read_metadata(tmp_path / "image.png")
    assert (metadata.prompt, metadata.seed, metadata.steps, metadata.watermark) == (
        "a photo of zwx teapot",
        3,
        2,
        False,
    )
    assert metadata.adapters[0]["name"] == metadata.run == "style"
    with Image.open(tmp_path / "image.jpg") as jpeg:
        record: dict[str, Any] = read_xmp(jpeg.info["xmp"])[1]
    assert record["prompts"] == [metadata.prompt]
    assert record["settings"]["scheduler"] == "ddim"
    assert str(tmp_path) not in json.dumps(record)
