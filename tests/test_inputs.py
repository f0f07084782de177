"""Inputs that could be lost without a word: each is used, or the user gets a message (tests/data/inputs.toml)."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import save_image
from errors import raises
from jobs import Command
from lookforward.assembly.checks import check_run
from lookforward.assembly.unused import unused_settings
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy

INPUTS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "data" / "inputs.toml").read_text(encoding="utf-8")
)["input"]


PAGE = Path(__file__).parents[1] / "docs" / "inputs.md"
HEAD = """\
<!-- Written by `python tests/test_inputs.py` from tests/data/inputs.toml: change it there. -->

# Inputs that could be misread

Every file, word and setting that you give is used, or a message says that it is not. This page lists inputs that are
easily misread or ignored. Each row is a test. What users of other trainers have lost is listed, with the test that pins
each, in `tests/test_told.py`.
"""


def of_kind(*kinds: str) -> Any:
    rows = [row for row in INPUTS if row["kind"] in kinds]
    return pytest.mark.parametrize("row", rows, ids=[row["input"] for row in rows])


def write(path: Path, content: str) -> None:
    """A file of a row; its content is text, or the name of a picture."""
    path.parent.mkdir(exist_ok=True)
    square = np.zeros((64, 64), np.uint8)
    square[16:48, 16:48] = 255
    match content:
        case "photo" | "copy":
            image = save_image(path.with_name("made.png"), 7 + (content == "copy"))
            Image.open(image).save(path, format="JPEG" if path.suffix == ".jpg" else "PNG")
            image.unlink()
        case "mask":
            Image.fromarray(square).save(path, format="JPEG" if path.suffix == ".jpg" else "PNG")
        case "labels":
            Image.fromarray(square // 127).save(path)
        case "flat":
            Image.new("RGB", (64, 64), (200, 120, 60)).save(path)
        case "clear":
            Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(path)
        case "rgba":
            pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 4), dtype=np.uint8)
            pixels[..., 3] = square
            Image.fromarray(pixels).save(path)
        case _:
            path.write_text(content.removeprefix("text: "), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photos."""
    place = tmp_path / "dog"
    place.mkdir()
    for i in range(4):
        save_image(place / f"{i}.png", i)
    return place


def settings_of(row: dict[str, Any], tmp_path: Path, **more: Any) -> Any:
    recipe = row.get("recipe", "dreambooth")
    if "=" in recipe:
        (tmp_path / "mine.toml").write_text(recipe, encoding="utf-8")
        recipe = str(tmp_path / "mine.toml")
    return load_settings(recipe, {"subject.class_noun": "dog", **more, **row.get("given", {})})


def require(row: dict[str, Any], text: str) -> None:
    assert not [fact for fact in row.get("said", ()) if fact not in text], text
    assert not [fact for fact in row.get("not_said", ()) if fact in text], text


@of_kind("files")
def test_files(row: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    if row.get("bare"):
        for path in folder.iterdir():
            path.unlink()
    for name, content in row.get("files", {}).items():
        write(folder / name, content)
    settings = settings_of(row, tmp_path)
    if "code" in row:
        with raises(row["code"], *row.get("said", ())):
            read_subject(folder, settings)
        return
    subject = read_subject(folder, settings)
    notes = [*subject.notes, *unused_settings(settings, row.get("given", {}), subject)]
    require(row, "\n".join([subject.summary.removeprefix(f"{folder}/"), *notes]))
    counts = {
        "photos": len(subject.photos),
        "captions": sum(bool(photo.caption) for photo in subject.photos),
        "masks": sum(bool(photo.masks) for photo in subject.photos),
    }
    assert {name: counts[name] for name in counts if name in row} == {n: row[n] for n in counts if n in row}


@pytest.fixture(scope="module")
def policy() -> DiffusionPolicy:
    return DiffusionPolicy(build_pipeline("toybox", "cpu"))


@of_kind("words")
def test_words(row: dict[str, Any], folder: Path, tmp_path: Path, policy: DiffusionPolicy) -> None:
    names = {f"subject.{name}": row[name] for name in ("identifier", "class_noun") if name in row}
    if "caption" in row:
        (folder / "0.txt").write_text(row["caption"], encoding="utf-8")
    settings = settings_of(row, tmp_path, **names)

    def check() -> str:
        return "\n".join(check_run(settings, read_subject(folder, settings), policy))

    if "code" in row:
        with raises(row["code"], *row.get("said", ())):
            check()
    else:
        require(row, check())


@of_kind("settings")
def test_settings(row: dict[str, Any], folder: Path, tmp_path: Path, policy: DiffusionPolicy) -> None:
    if "code" in row:
        with raises(row["code"], *row.get("said", ())):
            check_run(given := settings_of(row, tmp_path), read_subject(folder, given), policy)
        return
    settings = settings_of(row, tmp_path)
    values = settings.flat()
    assert {name: values[name] for name in row.get("values", {})} == row.get("values", {})
    notes = unused_settings(settings, row.get("given", {}), read_subject(folder, settings))
    require(row, "\n".join(notes))
    assert bool(notes) == bool(row.get("said"))


@of_kind("command")
def test_commands(row: dict[str, Any], folder: Path, tmp_path: Path, tiny_model: Path, command_line: Command) -> None:
    places = {"PHOTOS": folder, "MODEL": tiny_model, "OUT": tmp_path / "out", "LONG": "a photo of a vase " * 40}
    status, out, err = command_line(*[_at(places, word) for word in row["words"]])
    assert status == (2 if "code" in row else 0), err
    require(row, err if "code" in row else out)


def _at(places: dict[str, Any], word: str) -> str:
    """A word of a command, with a place at its beginning put in: PHOTOS/0.png."""
    place = next((one for one in places if word == one or word.startswith((f"{one}/", f"{one}:"))), "")
    return f"{places[place]}{word.removeprefix(place)}" if place else word


def page() -> str:
    """docs/inputs.md: a table of the rows by kind."""
    titles = {
        "files": "Files in the photos' folder",
        "settings": "Settings",
        "words": "Who is the subject",
        "command": "Options and prompts",
    }
    parts = [HEAD]
    for kind, title in titles.items():
        rows = [
            f"| {row['input']} | {_said(row)} | {row['does']} |".replace("`|", "`\\|")
            for row in INPUTS
            if row["kind"] == kind
        ]
        parts.append(f"## {title}\n\n| input | what is said | what is done |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _said(row: dict[str, Any]) -> str:
    facts = ", ".join(f"`{fact}`" for fact in row.get("said", ()))
    if "code" in row:
        return f"error `{row['code']}`, which names {facts}"
    return f"a line with {facts}" if facts else "–"


def test_the_page_lists_them() -> None:
    """`python tests/test_inputs.py` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_there_are_fifty() -> None:
    assert len({row["input"] for row in INPUTS}) == len(INPUTS)
    assert sum(not row.get("seen") for row in INPUTS) >= 50
    assert all(row["kind"] in {"files", "words", "settings", "command"} and row["does"] for row in INPUTS)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
