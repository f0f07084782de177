"""Prompt sets, template filling and prompt files."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from errors import raises
from lookforward.data.prompts import (
    LIVE_PROMPTS,
    OBJECT_PROMPTS,
    benchmark_prompts,
    fill,
    read_prompt_file,
    read_prompts_and_classes,
    without_identifier,
)

DATASET_FILE = Path(__file__).parents[2] / "shared" / "datasets" / "dreambooth" / "prompts_and_classes.txt"
needs_dataset = pytest.mark.skipif(
    not DATASET_FILE.exists(), reason="the DreamBooth data set is not at ../shared/datasets/dreambooth"
)
words = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@needs_dataset
def test_benchmark_prompts_are_the_data_sets_own() -> None:
    listed = re.findall(r"^'(.*)'\.format", DATASET_FILE.read_text(), flags=re.MULTILINE)
    templates = [line.replace("{0}", "{identifier}").replace("{1}", "{class_noun}") for line in listed]
    assert tuple(templates) == OBJECT_PROMPTS + LIVE_PROMPTS


@needs_dataset
def test_data_sets_class_table() -> None:
    classes = read_prompts_and_classes(DATASET_FILE)
    assert len(classes) == 30
    assert classes["bear_plushie"] == "stuffed animal"
    assert next(iter(classes)) == "backpack"
    assert list(classes)[-1] == "wolf_plushie"


def test_set_sizes_and_choice() -> None:
    assert len(set(OBJECT_PROMPTS)) == len(set(LIVE_PROMPTS)) == 25
    assert benchmark_prompts("dog") == LIVE_PROMPTS
    assert benchmark_prompts("stuffed animal") == OBJECT_PROMPTS


def test_fill_examples() -> None:
    assert fill("a photo of {identifier} {class_noun}", "sks", "dog") == "a photo of sks dog"
    assert fill("a {identifier} {class_noun} on the beach", "", "dog") == "a dog on the beach"
    assert fill("a {identifier} {class_noun}", "sks", "{identifier}") == "a sks {identifier}"
    assert fill("  no   subject ", "sks", "dog") == "no subject"


@given(st.sampled_from([*OBJECT_PROMPTS, *LIVE_PROMPTS]), words, st.lists(words, min_size=1))
def test_without_identifier_undoes_fill(template: str, identifier: str, noun_words: list[str]) -> None:
    class_noun = " ".join(noun_words)
    class_prompt = fill(template, "", class_noun)
    assume(identifier not in class_prompt.lower().split())
    assert without_identifier(fill(template, identifier, class_noun), identifier) == class_prompt


@given(st.text(), st.text(), st.text())
def test_fill_never_fails_and_leaves_single_spaces(template: str, identifier: str, class_noun: str) -> None:
    filled = fill(template, identifier, class_noun)
    assert filled == " ".join(filled.split())


@pytest.mark.parametrize(
    ("prompt", "identifier", "expected"),
    [
        ("a photo of SKS dog", "sks", "a photo of dog"),
        ("a photo of <sks> dog", "<sks>", "a photo of dog"),
        ("sks dog beside sks dog", "sks", "dog beside dog"),
        ("a sksy dog", "sks", "a sksy dog"),
        ("a olis  ohwx dog", "olis ohwx", "a dog"),
        ("a photo of dog", "", "a photo of dog"),
        ("a a.b dog axb", "a.b", "a dog axb"),
    ],
)
def test_without_identifier_examples(prompt: str, identifier: str, expected: str) -> None:
    assert without_identifier(prompt, identifier) == expected


def test_prompt_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbf# ours\r\na {} on the moon\r\n\r\n  a {identifier}  {class_noun}\r\na dog #1\r\n")
    assert read_prompt_file(file) == [
        "a {identifier} {class_noun} on the moon",
        "a {identifier} {class_noun}",
        "a dog #1",
    ]


@pytest.mark.parametrize(
    ("content", "code", "fact"),
    [
        (b"", "prompts-empty", ""),
        (b"# only a comment\n\n", "prompts-empty", ""),
        ("a photo of {}".encode("utf-16"), "file-encoding", ""),
        ("a photo of {}".encode("utf-16-le"), "file-encoding", ""),
        ("une photo d'été".encode("latin-1"), "file-encoding", ""),
        (b"a dog\na photo of {name}\n", "prompt-placeholder", "line 2"),
        (b"a photo of {identifier\n", "prompt-placeholder", "'a photo of {identifier'"),
        (b"a {0} {1}\n", "prompt-placeholder", "{identifier} and {class_noun}"),
    ],
)
def test_bad_prompt_files(tmp_path: Path, content: bytes, code: str, fact: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with raises(code, file, fact):
        read_prompt_file(file)


def test_prompt_file_missing_or_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path, Path("nul\0byte")):
        with raises("file-unreadable"):
            read_prompt_file(path)


def test_class_table(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("Classes\n\nsubject_name,class\ncat2 , cat\nbear,stuffed animal\n\nPrompts\n'a, b'\n")
    assert read_prompts_and_classes(file) == {"cat2": "cat", "bear": "stuffed animal"}
    file.write_text("a photo of a dog, on the beach\n")
    with raises("dataset-classes", file):
        read_prompts_and_classes(file)
