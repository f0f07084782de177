"""The data sets that a benchmark reads: Toybox's own, and folders in two layouts."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import save_image
from errors import raises
from fake_cells import fake_plan
from lookforward.benchmark.datasets.find import bundled_dataset, find_dataset
from lookforward.benchmark.datasets.values import photos_hash, provide_photos, require_names
from lookforward.benchmark.photo_notes import photo_notes
from lookforward.benchmark.plan import Plan
from lookforward.data.prompts import LIVE_PROMPTS, OBJECT_PROMPTS
from lookforward_toybox.subjects import reference_photos
from lookforward_toybox.world.subject import DEVELOPMENT

REAL = Path(__file__).parents[2] / "shared" / "datasets" / "dreambooth"
TABLE = """Classes

subject_name,class
dog6,dog
old_vase,vase
cat2,cat

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} wearing a red hat'.format(unique_token, class_token),
"a {0} {1} on the farmer's arm".format(unique_token, class_token)
]
"""


def dreambooth(folder: Path, table: str = TABLE, present: tuple[str, ...] = ("dog6", "old_vase", "cat2")) -> Path:
    for i, name in enumerate(present):
        (folder / name).mkdir(parents=True)
        for j in range(3):
            save_image(folder / name / f"{j:02d}.png", seed=10 * i + j)
    folder.mkdir(exist_ok=True)
    (folder / "prompts_and_classes.txt").write_text(table)
    return folder


def entry(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "instance_prompt": "photo of a <new1> dog",
        "class_prompt": "dog",
        "instance_data_dir": f"./benchmark_dataset/{name}",
        "class_data_dir": "./regularization/pet_dog",
        "prompt_filename": "prompts/dog.txt",
    } | changed


def custom_concept(folder: Path, entries: Any, prompts: str = "Photo of a {}.\n{} in times square.\n") -> Path:
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "dog.txt").write_text(prompts)
    (folder / "benchmark_dataset" / "pet_dog1").mkdir(parents=True)
    save_image(folder / "benchmark_dataset" / "pet_dog1" / "0.png")
    (folder / "dataset.json").write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return folder


def test_toybox_parts_share_no_subject(tmp_path: Path) -> None:
    test, development = find_dataset("toybox"), find_dataset("toybox-development")
    assert len(test.subjects) == 20
    assert tuple(s.name for s in development.subjects) == DEVELOPMENT
    assert not {s.name for s in test.subjects} & set(DEVELOPMENT)
    assert sum(s.live for s in (*test.subjects, *development.subjects)) == 9
    for subject in test.subjects:
        assert subject.prompts == (LIVE_PROMPTS if subject.live else OBJECT_PROMPTS)


def test_toybox_subject_draws_itself_in_another_process() -> None:
    subject = pickle.loads(pickle.dumps(bundled_dataset("toybox").find("clock-0")))
    drawn = subject.drawing()
    assert drawn.shape == (64, 64, 4)
    assert 0 < drawn[..., 3].mean() < 1


def test_toybox_photos_are_written_once_and_whole(tmp_path: Path) -> None:
    subject = bundled_dataset("toybox").find("clock-0")
    folder = provide_photos(subject, tmp_path)
    first = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(first) == len(reference_photos("clock-0")) + 1
    provide_photos(subject, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == first
    (folder / "subject.json").unlink()  # as a killed process leaves it
    (folder / "00.png").write_bytes(b"half")
    provide_photos(subject, tmp_path)
    assert (folder / "00.png").stat().st_size > 100
    assert [path.name for path in tmp_path.iterdir()] == ["clock-0"]


def test_dreambooth_is_read_as_it_is(tmp_path: Path) -> None:
    data = find_dataset(str(dreambooth(tmp_path / "set", present=("dog6", "old_vase", "extra"))))
    dog, vase = data.subjects
    assert (dog.name, dog.class_noun, dog.kind, dog.photos) == ("dog6", "dog", "live", tmp_path / "set" / "dog6")
    assert dog.prompts == (
        "a {identifier} {class_noun} wearing a red hat",
        "a {identifier} {class_noun} on the farmer's arm",
    )
    assert (vase.class_noun, vase.kind) == ("vase", "object")
    assert vase.prompts == ("a {identifier} {class_noun} in the jungle", "a red {identifier} {class_noun}")
    assert data.notes == (
        "1 of the 3 subjects in prompts_and_classes.txt have no folder: cat2",
        "prompts_and_classes.txt does not name these folders, which are left out: extra",
    )
    with raises("subject-unknown", "'cat2'", "dog6, old_vase"):
        data.find("cat2")


def test_dreambooth_without_lists_has_the_published_prompts(tmp_path: Path) -> None:
    data = find_dataset(str(dreambooth(tmp_path / "set", TABLE.split("Prompts")[0])))
    assert data.find("dog6").prompts == LIVE_PROMPTS
    assert data.find("old_vase").prompts == OBJECT_PROMPTS


@pytest.mark.parametrize(
    ("change", "code", "fact"),
    [
        (lambda t: t.replace("subject_name,class", "name,noun"), "dataset-classes", "prompts_and_classes.txt"),
        (lambda t: t.replace("dog6,dog", "dog6,"), "dataset-broken", "dog6,CLASS"),
        (lambda t: t.replace("dog6,dog", "../dog6,dog"), "subject-name", "'../dog6'"),
        (lambda t: t.replace("'a red {0}", "'a red {2}"), "dataset-broken", "{0} and {1}"),
        (lambda t: t.split("Live Subject")[0], "dataset-broken", "live"),
    ],
)
def test_broken_dreambooth_says_what_is_wrong(
    tmp_path: Path, change: Callable[[str], str], code: str, fact: str
) -> None:
    folder = dreambooth(tmp_path / "set", change(TABLE), present=("cat2",))
    with raises(code, fact):
        find_dataset(str(folder))


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with raises("dataset-unknown", "'toybx'", "toybox-development"):
        find_dataset("toybx")
    with raises("dataset-unknown", "prompts_and_classes.txt", "dataset.json"):
        find_dataset(str(tmp_path))
    with raises("dataset-empty", "dog6"):
        find_dataset(str(dreambooth(tmp_path / "set", present=())))


def test_custom_concept(tmp_path: Path) -> None:
    data = find_dataset(str(custom_concept(tmp_path / "cc", [entry("pet_dog1"), entry("pet_dog2")])))
    (dog,) = data.subjects
    assert (dog.name, dog.class_noun, dog.kind) == ("pet_dog1", "dog", "live")
    assert dog.photos == tmp_path / "cc" / "benchmark_dataset" / "pet_dog1"
    assert dog.prompts == ("Photo of a {identifier} {class_noun}.", "{identifier} {class_noun} in times square.")
    assert data.notes == ("1 of 2 subjects have no folder: pet_dog2",)


@pytest.mark.parametrize(
    ("entries", "prompts", "code", "fact"),
    [
        ("[{", "a {}", "dataset-broken", "dataset.json"),
        ("{}", "a {}", "dataset-broken", "instance_data_dir"),
        ([entry("pet_dog1", class_prompt=3)], "a {}", "dataset-broken", "entry 1: class_prompt"),
        ([{"class_prompt": "dog"}], "a {}", "dataset-broken", "entry 1: instance_data_dir"),
        ([entry("pet_dog1", prompt_filename="prompts/no.txt")], "a {}", "file-unreadable", "no.txt"),
        ([entry("pet_dog1")], "a {} {breed}", "prompt-placeholder", "breed"),
        ([entry("pet_dog1")], "a dog", "dataset-broken", "'a dog'"),
        ([entry("pet_dog1"), entry("pet_dog1")], "a {}", "subject-name", "pet_dog1"),
        ([entry("gone")], "a {}", "dataset-empty", "gone"),
    ],
)
def test_broken_custom_concept_says_what_is_wrong(
    tmp_path: Path, entries: Any, prompts: str, code: str, fact: str
) -> None:
    with raises(code, fact):
        find_dataset(str(custom_concept(tmp_path / "cc", entries, prompts)))


def test_photos_hash_follows_contents(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        save_image(tmp_path / name / "0.png", seed=int(name == "c"))
    a, b, c = (photos_hash(tmp_path / name) for name in "abc")
    assert a == b != c
    assert photos_hash(tmp_path / "none") == ""


def test_names_become_files() -> None:
    for name in ("a/b", ".hidden", "", "-x", "a\\b", "a\nb", "x" * 101):
        with raises("subject-name"):
            require_names([name], Path("index"))
    require_names(["dog6", "berry bowl", "katze-ß"], Path("index"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the DreamBooth data set is not beside this repository")
def test_the_real_data_set() -> None:
    data = find_dataset(str(REAL))
    assert len(data.subjects) == 20
    assert {s.name for s in data.subjects if s.live} == {"cat", "dog", "dog3", "dog5", "dog7"}
    assert data.find("grey_sloth_plushie").class_noun == "stuffed animal"
    for subject in data.subjects:
        assert subject.prompts == (LIVE_PROMPTS if subject.live else OBJECT_PROMPTS)
        assert subject.photos is not None
        assert photos_hash(subject.photos)
    assert "10 of the 30 subjects" in data.notes[0]
    assert np.unique([photos_hash(s.photos) for s in data.subjects if s.photos]).size == 20


def test_photos_that_cannot_be_used_are_named_before_anything_runs(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path)
    assert photo_notes(plan) == []
    (tmp_path / "dog6" / "1.png").write_bytes(b"no picture")
    (tmp_path / "dog6" / "2.png").write_bytes((tmp_path / "dog6" / "0.png").read_bytes()[:90])
    [note] = photo_notes(plan)
    assert all(fact in note for fact in ("dog6", "1.png", "2.png", "--subjects"))
    assert "0.png" not in note
    shutil.rmtree(tmp_path / "old_vase")
    assert len(photo_notes(plan)) == 2
    assert photo_notes(replace(plan, subjects=())) == []


def test_the_worlds_own_subjects_need_no_look() -> None:
    methods = {"dreambooth": ("dreambooth", {})}
    assert photo_notes(Plan(("clock-0",), methods, (0,), dataset=bundled_dataset("toybox"))) == []
