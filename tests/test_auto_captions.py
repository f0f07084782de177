"""Captions by a vision-language model: a stand-in that has learned to tell a light image from a dark one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import make_pipeline
from errors import raises
from jobs import SETTINGS
from lookforward.assembly import build, check
from lookforward.assembly.auto_captions import _QUESTION, as_caption, load_captioner
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from tiny import references_of
from tiny_captioner import make_blip, make_llava

CAPTIONS = {30: "a dog on the grass at night", 220: "a cat in the snow"}


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_blip(tmp_path_factory.mktemp("blip"), CAPTIONS)


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    """A dark photo, a light one, and one with a caption."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "dog"
    folder.mkdir()
    for i, level in enumerate((30, 220, 30)):
        pixels = np.clip(level + rng.integers(-9, 9, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "2.txt").write_text("a {} asleep")
    return folder


def settings_of(model: Path, **more: Any) -> Any:
    given = {**SETTINGS, "subject.class_noun": "dog", "data.caption_model": str(model), "run.steps": 1, **more}
    return load_settings("dreambooth", given)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("A dog lies on the grass.", "a {} lies on the grass"),
        ('"A small Dog. It sleeps."', "a small {}"),
        ("dogs on a row of {} desks\nmore", "dogs on a row of desks"),
        ("  ", ""),
    ],
)
def test_what_is_written_as_a_caption(text: str, caption: str) -> None:
    assert as_caption(text, "dog") == caption


def test_each_photo_without_a_caption_gets_one(blip: Path, dog: Path) -> None:
    settings = settings_of(blip)
    components = build(settings, read_subject(dog, settings), make_pipeline())
    prompts = ("a sks dog on the grass at night", "sks dog, a cat in the snow", "a sks dog asleep")
    assert references_of(components.trainer).prompts == prompts
    assert references_of(components.trainer).plain_prompts[0] == "a dog on the grass at night"
    for line in (f"0.png: {prompts[0]!r}", f"1.png: {prompts[1]!r}"):
        assert line in components.notes
    assert not any(note.startswith("2.png") for note in components.notes)


def test_words_that_the_encoder_would_not_read_are_left_out(blip: Path, dog: Path) -> None:
    pipeline = make_pipeline()
    pipeline.tokenizer.model_max_length = 10
    settings = settings_of(blip, **{"data.captions": False})
    prompts = build(settings, read_subject(dog, settings), pipeline).trainer.references.prompts
    assert len(prompts) == 3
    assert all("sks dog" in prompt for prompt in prompts)
    assert prompts[0] != "a sks dog on the grass at night"
    assert "a sks dog on the grass at night".startswith(prompts[0])


def test_a_model_that_is_asked_in_a_chat(tmp_path: Path) -> None:
    question = _QUESTION.format(noun="dog")
    folder = make_llava(tmp_path / "llava", "a dog by the sea", question)
    assert load_captioner(str(folder), "cpu", "dog")(np.full((16, 16, 3), 90, np.uint8)) == "a dog by the sea"


def test_other_models_are_refused_before_anything_is_drawn(
    blip: Path, dog: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookforward.assembly.class_images.class_images", lambda *_, **__: pytest.fail("drew"))
    text = settings_of(tiny_model / "text_encoder", **{"model.name": str(tiny_model)})
    with raises("caption-model", "clip", "blip-image-captioning"):
        check(text, read_subject(dog, text))
    missing = settings_of(tmp_path / "nowhere", **{"model.name": str(tiny_model)})
    with raises("model-missing", "nowhere"):
        check(missing, read_subject(dog, missing))
    dpok = load_settings("dpok", {**SETTINGS, "subject.class_noun": "dog", "data.caption_model": str(blip)})
    with raises("settings-conflict", "data.caption_model"):
        check(dpok, read_subject(dog, dpok))


def test_photos_with_captions_need_no_model(blip: Path, dog: Path, tiny_model: Path) -> None:
    for i in range(2):
        (dog / f"{i}.txt").write_text("a {} asleep")
    settings = settings_of(blip, **{"model.name": str(tiny_model)})
    (note,) = check(settings, read_subject(dog, settings), {"data.caption_model": str(blip)})
    assert all(fact in note for fact in ("data.caption_model", "every photo has a caption"))
