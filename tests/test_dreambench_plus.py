"""DreamBench++'s layout is read as it is published, and its subjects keep their one photo, kinds and words."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from errors import raises
from fake_cells import FakeRunner, finish
from lookforward.benchmark.datasets.find import find_dataset
from lookforward.benchmark.datasets.values import Dataset, photo_files, photos_hash
from lookforward.benchmark.description import write_description
from lookforward.benchmark.methods import grid_methods
from lookforward.benchmark.plan import Plan
from lookforward.benchmark.reading import read_benchmark
from lookforward.benchmark.runner import prepare
from lookforward.config.recipe import load_settings
from lookforward.data.prompts import fill
from lookforward.data.subjects import read_subject
from lookforward.report.overview import overview_section
from lookforward.report.page_sections import breakdown_section

CAPTIONS = {
    "live_subject/animal/00": ("kitten", "A photo of a Kitten on a sofa"),
    "live_subject/human/00": ("little girl", "a little girl in a park"),
    "object/00": ("piggy bank", "two piggy banks on a table"),
    "object/07": ("Rolls-Royce hood ornament", "a Rolls-Royce hood ornament on velvet"),
    "style/00": ("ukiyo-e", "a city street in the evening"),
}


def dreambench(folder: Path, captions: Mapping[str, tuple[str, str]] = CAPTIONS, photos: bool = True) -> Path:
    """A data set of a few subjects, in the published layout."""
    for i, (name, (noun, first)) in enumerate(captions.items()):
        text, photo = folder / "captions" / f"{name}.txt", folder / "images" / f"{name}.jpg"
        text.parent.mkdir(parents=True, exist_ok=True)
        photo.parent.mkdir(parents=True, exist_ok=True)
        prompts = [first, *(f"{noun} number {n}" for n in range(1, 9))]
        text.write_text("\n".join([noun, *prompts]) + "\n", encoding="utf-8")
        if photos:
            pixels = np.random.default_rng(i).integers(0, 256, (40, 32 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photo)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    dreambench(tmp_path / "set" / "data")
    return find_dataset(str(tmp_path / "set"))  # the archive's own folder, data, is within


def test_subjects_are_called_as_the_published_results_call_them(data: Dataset) -> None:
    assert [s.name for s in data.subjects] == [
        "live_subject_animal_00_kitten", "live_subject_human_00_little_girl", "object_00_piggy_bank",
        "object_07_rolls-royce_hood_ornament", "style_00_ukiyo-e",
    ]  # fmt: skip
    assert [s.kind for s in data.subjects] == ["live", "live", "object", "object", "style"]
    assert [s.group for s in data.subjects][-2:] == ["objects", "styles"]
    assert all(len(s.prompts) == 9 for s in data.subjects)
    assert data.name == data.kind == "dreambench++"


def test_prompts_name_the_subject_where_the_caption_does(data: Dataset) -> None:
    first = [fill(s.prompts[0], "sks", s.class_noun) for s in data.subjects]
    assert first == [
        "A photo of a sks kitten on a sofa", "a sks little girl in a park", "two sks piggy banks on a table",
        "a sks Rolls-Royce hood ornament on velvet", "a city street in the evening, sks ukiyo-e",
    ]  # fmt: skip
    assert any("at the end: 1" in note for note in data.notes)
    assert any("are styles: 1" in note for note in data.notes)


def test_kinds_of_prompts_are_those_of_the_paper(data: Dataset) -> None:
    subject = data.subjects[0]
    assert [subject.kinds[p] for p in subject.prompts] == (
        ["photorealistic"] * 4 + ["style transfer"] * 3 + ["imaginative"] * 2
    )
    plan = Plan(("object_00_piggy_bank",), {}, (0,), count=3, dataset=data)
    assert list(plan.kinds.values()) == ["photorealistic", "style transfer", "imaginative"]


def test_one_photo_is_the_whole_folder_of_its_subject(data: Dataset) -> None:
    kitten, girl = data.subjects[:2]
    assert kitten.photos is not None
    assert girl.photos is not None
    assert photo_files(kitten.photos) == [kitten.photos]
    assert len(photos_hash(kitten.photos)) == 16
    assert photos_hash(kitten.photos) != photos_hash(girl.photos)
    given = {"data.resolution": 32, "subject.class_noun": "kitten"}
    settings = load_settings("dreambooth", {**data.settings, **given})
    assert len(read_subject(kitten.photos, settings).photos) == 1
    with raises("photos-few"):
        read_subject(kitten.photos, load_settings("dreambooth", given))


def test_a_report_knows_styles_and_the_kinds_of_prompts(data: Dataset, tmp_path: Path) -> None:
    methods = grid_methods(("dreambooth",), ("full",), {**data.settings, "run.steps": 20})
    plan = Plan(("object_00_piggy_bank", "style_00_ukiyo-e"), methods, (0,), None, 1, None, data)
    folder = tmp_path / "out"
    prepare(plan, folder)
    write_description(plan, folder, "toybox")
    assert all(outcome.cell for outcome in finish(plan, folder, FakeRunner(tmp_path / "ledger")))
    shown = read_benchmark(folder)
    assert "1 objects, 0 live, 1 styles" in str(overview_section(shown))
    text = str(breakdown_section(shown))
    assert all(words in text for words in ("Styles", "Objects", "an imaginative scene", "another style"))
    assert "Live subjects" not in text
    assert len(shown.references("style_00_ukiyo-e")) == 1


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ("", "dataset-broken", "00.txt"),
        ("kitten\n\n", "dataset-broken", "00.txt"),
        ("kitten\na {kitten}\n", "dataset-broken", "'a {kitten}'"),
    ],
)
def test_broken_captions_say_what_is_wrong(tmp_path: Path, text: str, code: str, fact: str) -> None:
    folder = dreambench(tmp_path, {"object/00": CAPTIONS["object/00"]})
    (folder / "captions/object/00.txt").write_text(text)
    with raises(code, fact):
        find_dataset(str(folder))


def test_missing_and_misplaced_images(tmp_path: Path) -> None:
    folder = dreambench(tmp_path / "a")
    (folder / "images/object/00.jpg").unlink()
    data = find_dataset(str(folder))
    assert len(data.subjects) == 4
    assert any("object/00" in note for note in data.notes)
    with raises("dataset-empty", "captions/object/00.txt"):
        find_dataset(str(dreambench(tmp_path / "b", photos=False)))
    Image.new("RGB", (32, 32)).save(tmp_path / "secret.jpg")
    Image.new("RGB", (32, 32)).save(folder / "images/object/99.jpg")
    assert any("no captions, so they are left out: object/99" in note for note in find_dataset(str(folder)).notes)
    (folder / "images/object/00.jpg").symlink_to(tmp_path / "secret.jpg")
    with raises("link-outside", "00.jpg"):
        find_dataset(str(folder))


def test_lists_of_prompts_that_are_not_as_published(tmp_path: Path) -> None:
    folder = dreambench(tmp_path, dict.fromkeys(("object/00", "object/01"), ("cup", "a cup")))
    (folder / "captions/object/00.txt").write_text("cup\na cup\na cup on a table\n")
    (folder / "captions/object/01.txt").write_text("cup\n" + "a cup\n" * 2 + f"a cup by {1}\n" * 7)
    data = find_dataset(str(folder))
    assert [len(subject.prompts) for subject in data.subjects] == [2, 2]
    assert not data.subjects[0].kinds
    assert data.subjects[1].kinds  # nine lines, though some are the same
    assert any("other than 9 prompts, so their kinds are not known: object/00" in note for note in data.notes)


@pytest.mark.parametrize("stem", [b"[0]", b"0\xff", b"0\x1b[2J"])
def test_names_of_files_are_taken_as_they_are(tmp_path: Path, stem: bytes) -> None:
    folder = dreambench(tmp_path, {"object/00": ("cup", "a cup")})
    for part, suffix in (("captions", b".txt"), ("images", b".jpg")):
        where = os.fsencode(folder / part / "object")
        os.rename(where + b"/00" + suffix, where + b"/" + stem + suffix)
    if stem.decode("ascii", "replace").isprintable() and stem.isascii():
        assert find_dataset(str(folder)).subjects[0].name == "object_[0]_cup"
    else:
        with raises("subject-name") as caught:
            find_dataset(str(folder))
        assert str(caught.value).isprintable()
