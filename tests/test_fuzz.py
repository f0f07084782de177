"""What the fuzzer begins with, and what it once found, is read or refused with a message. `make fuzz` makes up more."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fuzz.child import Findings
from fuzz.common import CORPUS, GROUPS, Contacted, attempt, corpus
from fuzz.mutate import mutate


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.mark.parametrize("group", GROUPS)
def test_inputs_are_read_or_refused_as_their_names_say(group: str) -> None:
    readers, wrong = import_module(f"fuzz.{group}").READERS, []
    for path in corpus(group):
        what, _, _ = path.name.partition("-")
        assert what in ("read", "refused"), path
        if attempt(readers, path.read_bytes()) != (what == "read"):
            wrong.append(path.name)
    assert not wrong
    letters = {path.read_bytes()[0] - ord("a") for path in corpus(group)}
    assert letters == set(range(len(readers)))  # every reader has one


def test_the_inputs_stay_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 200_000
    assert {path.name for path in CORPUS.iterdir()} == set(GROUPS)


def test_an_input_that_breaks_a_reader_is_a_finding(tmp_path: Path) -> None:
    def broken(data: bytes) -> None:
        json.loads(data)["name"].strip()

    kept = Findings(tmp_path, "own")
    for data in (b"a[1]    ", b'a{"name": 1}', b'a{"name": "x"}', b"a[1]", b"a[1] "):
        try:
            attempt((broken,), data)
        except Exception as error:
            kept.add(error, data)
    found = sorted(path for path in tmp_path.iterdir() if path.suffix != ".txt")
    assert [path.read_bytes() for path in found] == [b'a{"name": 1}', b"a[1]"]  # the shortest of each
    assert "AttributeError" in found[0].with_name(f"{found[0].name}.txt").read_text()


def test_a_reader_that_looks_up_a_host_is_a_finding() -> None:
    import socket

    def caller(data: bytes) -> None:
        try:
            socket.getaddrinfo(data.decode(), 80)
        except Exception:
            return

    with pytest.raises(Contacted, match="an-example"):
        attempt((caller,), b"aan-example.invalid")


def _no_change(data: bytes, most: int) -> bytes:
    return data[:most]


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b'a{"a": [1, {"b": "x"}], "c": null}', json.loads),
        (b'a{"a": 1}\n{"a": 2}', lambda text: [json.loads(line) for line in text.splitlines()]),
    ],
    ids=["table", "lines"],
)
def test_changed_json_is_json(data: bytes, read: Callable[[bytes], Any]) -> None:
    made = {mutate(data, 5000, seed, _no_change) for seed in range(200)}
    assert all(len(one) <= 5000 for one in made)
    assert sum(read(one[1:]) != read(data[1:]) for one in made) > 50


def test_changed_png_files_have_checksums_that_fit(tmp_path: Path) -> None:
    from PIL import Image

    from lookforward.data.image_files import ImageError, opened_image

    Image.effect_noise((20, 20), 90).save(tmp_path / "a.png")
    data, said = b"a" + (tmp_path / "a.png").read_bytes(), []
    for seed in range(60):
        made = mutate(data, 5000, seed, _no_change)[1:]
        try:
            with opened_image(tmp_path / "a.png", data=made):
                pass
        except ImageError as error:
            said.append(str(error))
    assert 0 < len(said) < 60
    assert not [one for one in said if "checksum" in one]
