"""Files are written whole or not at all, and JSON is checked as it is read."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from errors import raises
from lookforward import files
from lookforward.files import (
    atomic_file,
    atomic_folder,
    digest_file,
    digest_folder,
    read_json,
    read_json_lines,
    write_json,
    write_tensors,
    write_text,
)


@dataclass
class Row:
    step: int
    terms: dict[str, list[float]]
    note: str = ""


def test_a_file_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "new ä")
    assert path.read_text(encoding="utf-8") == "new ä"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
@pytest.mark.parametrize("shared", [False, True])
def test_what_was_there_survives_an_error(tmp_path: Path, error: BaseException, shared: bool) -> None:
    path, folder = tmp_path / "a.txt", tmp_path / "folder"
    write_text(path, "old")
    folder.mkdir()
    write_text(folder / "b.txt", "old")

    def stop(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(type(error)), atomic_file(path, shared=shared) as partial:
        stop(partial)
    with pytest.raises(type(error)), atomic_folder(folder, shared=shared) as partial:
        stop(partial / "b.txt")
    assert path.read_text() == (folder / "b.txt").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path, folder]


def test_a_folder_replaces_an_earlier_one_and_what_a_kill_left(tmp_path: Path) -> None:
    folder = tmp_path / "x" / "folder"
    for content in ("one", "two"):
        left = folder.with_name(".partial-folder")
        left.mkdir(parents=True)
        (left / "left").touch()
        with atomic_folder(folder) as partial:
            (partial / f"{content}.txt").write_text(content)
        assert [path.name for path in folder.iterdir()] == [f"{content}.txt"]
        assert list(folder.parent.iterdir()) == [folder]


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(files, "sync", lambda path: done.append(f"sync {path.name}"))
    monkeypatch.setattr(Path, "rename", lambda self, to: done.append("rename") or rename(self, to))
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "a").touch()
    assert done[0] == f"sync {tmp_path.name}"
    assert set(done[1:3]) == {"sync sub", "sync a"}
    assert done[3:] == ["sync .partial-folder", "rename", f"sync {tmp_path.name}"]


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EACCES, "not-writable")])
def test_an_error_of_writing_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def fail(_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with raises(code, tmp_path / "a.json"):
        write_json(tmp_path / "a.json", {})
    with raises(code, tmp_path / "folder"), atomic_folder(tmp_path / "folder"):
        pass
    assert not list(tmp_path.iterdir())


def test_json_of_a_known_shape(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    write_json(path, {"step": 1, "terms": {"loss": [1, 2.5]}})
    assert read_json(path, Row) == Row(1, {"loss": [1.0, 2.5]})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"step": "1", "terms": {}}', "$.step"),
        ('{"step": true, "terms": {}}', "$.step"),
        ('{"terms": {}}', "$.step"),
        ('{"step": 1, "terms": {"loss": ["x"]}}', "$.terms.loss[0]"),
        ('{"step": 1, "te', "JSON"),
        ("[1]", "$"),
        ("", "JSON"),
    ],
)
def test_damaged_json_names_file_and_field(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "row.json"
    path.write_text(text)
    with raises("file-damaged", path, field):
        read_json(path, Row)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with raises("file-unreadable", tmp_path / "row.json"):
        read_json(tmp_path / "row.json", Row)
    with raises("file-unreadable", tmp_path / "rows.jsonl"):
        read_json_lines(tmp_path / "rows.jsonl", Row)


def test_lines_that_are_cut_off_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n\n{"step": 2}\n{"step"')  # as a kill leaves it
    assert read_json_lines(path, dict[str, int]) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"ste\n\n{"step": 2}\n')  # which no kill does
    with raises("file-damaged", path, "line 2", "JSON"):
        read_json_lines(path, dict[str, int])
    path.write_text('{"step": 1}\n{"step": "x"}\n')
    with raises("file-damaged", path, "line 2", "step"):
        read_json_lines(path, dict[str, int])


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    metadata = {str(i): 'ä"\n' * i for i in range(9)}
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(3, dtype=torch.float16)}
    names = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for path in names:
        write_tensors(path, tensors, metadata)
    assert len({digest_file(path) for path in names}) == 1
    loaded = load_file(names[0])
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    with safe_open(names[0], framework="pt") as file:
        assert file.metadata() == metadata
    write_tensors(names[0], tensors, {})
    assert load_file(names[0]).keys() == tensors.keys()


def test_a_folders_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "1")
    before = digest_folder(tmp_path)
    write_text(tmp_path / ".hidden", "2")
    assert digest_folder(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_folder(tmp_path) != before
    assert digest_folder(tmp_path, "*.none") != before
    with pytest.raises(FileNotFoundError):
        digest_folder(tmp_path / "none")
