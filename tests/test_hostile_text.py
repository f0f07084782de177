"""Names, texts and JSON from outside: shown with backslashes, bounded, and named where they are wrong."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from errors import raises
from lookforward.config.settings import Settings
from lookforward.errors import LookforwardError
from lookforward.records import DEEPEST, check_json_lines, parse_json, read_bytes, read_json
from lookforward.report.blocks import Section, Table, Text
from lookforward.report.render import html_page, markdown_page
from lookforward.runs import lock
from lookforward.runs.checkpoint import list_checkpoints
from lookforward.runs.folder import Run
from lookforward.runs.lock import LockHeld, locked
from lookforward.texts import MOST_OF_MESSAGE, MOST_OF_NOTE, visible

HOSTILE = {
    "escape": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "one-byte escape": ("\x9b31m", "\\x9b31m"),
    "not UTF-8": (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
    "reversed": ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
    "lines": ("a\nb\rc\td", "a\\nb\\rc\\td"),
    "half a character": ("\ud83d", "\\ud83d"),
    "separators": ("a\u2028b", "a\\u2028b"),
    "tag": ("\U000e0041", "\\U000e0041"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_seen_is_written(name: str) -> None:
    text, shown = HOSTILE[name]
    assert visible(text) == shown
    visible(text).encode("utf-8")
    if "\n" not in text:
        assert str(LookforwardError(text)) == shown


@pytest.mark.parametrize("text", ["ein Hund, größer", "犬の写真", "x̂₀ − ᾱ", "👩\u200d🚀", "می\u200cخواهم", "C:\\new"])
def test_plain_texts_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


def test_a_long_message_keeps_its_remedy() -> None:
    message = str(LookforwardError("begins " + "x" * 10**6 + " remedy: delete it."))
    assert len(message) == MOST_OF_MESSAGE
    assert message.startswith("begins ")
    assert message.endswith("remedy: delete it.")


def test_a_terminal_in_any_encoding_gets_backslashes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9\x1b[31m")
    folder.mkdir()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "lookforward", "train", folder, "--class-noun", "dog"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 2
    assert b"caf\\xe9\\x1b[31m" in done.stderr
    assert b"\x1b" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_notes_are_visible_and_cut() -> None:
    from lookforward.cli.console import console, print_notes

    with console.capture() as captured:
        print_notes([text for text, _ in HOSTILE.values()] + ["y" * 10**6])
    lines = captured.get().splitlines()
    assert lines[:-1] == [f"Note: {shown}" for _, shown in HOSTILE.values()]
    assert len(lines[-1]) == len("Note: ") + MOST_OF_NOTE


@pytest.mark.parametrize("name", HOSTILE)
def test_pages_show_backslashes(name: str) -> None:
    text, shown = HOSTILE[name]
    section = Section(text, [Text(text), Table(text, ["cell", text], [[text, text]])])
    page = html_page(text, [section], text)
    assert shown in page
    table = markdown_page(text, [section], text)
    if name not in ("lines", "separators"):  # for which Markdown has a space
        assert shown.replace("\\", "\\\\").replace("]", "\\]") in table
    for written in (page, table):
        written.encode("utf-8")
        assert not set(written) & set("\x1b\x9b\x07\u202e\u2028")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": NaN}', "NaN"), ('{"a": [-Infinity]}', "-Infinity"), ('{"a": 1e999}', "1e999"),
        ("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), "deeper"), ("[" * 10**5, "deeper"), ("9" * 400, "too large"),
    ],
)  # fmt: skip
def test_json_that_python_would_take(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_json(text.encode())


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with raises("file-unreadable", "pipe"):  # to open it would block
        read_json(tmp_path / "pipe", dict[str, int])
    (tmp_path / "large").write_bytes(b"12345")
    with raises("file-unreadable", "large"):
        read_bytes(tmp_path / "large", most=4)


def test_a_log_keeps_what_it_cannot_read(tmp_path: Path) -> None:
    run = Run(tmp_path, Settings())
    bad = ['{"step": 2, "loss": "low"}', "garbage", '{"loss": 1}']
    lines = ['{"step": 1, "loss": 0.5}', *bad, '{"step": 5, "loss": 1}']
    run.metrics.write_text("\n".join(lines) + "\n")
    with raises("file-damaged", "metrics.jsonl", "line 2", "loss"):
        run.read_metrics()
    notes = " ".join(run.forget_after(4))
    assert all(fact in notes for fact in ("line 2", ".loss", "line 3", "line 4", "step", "(2, 3, 4)"))
    assert run.read_metrics() == [{"step": 1, "loss": 0.5}]
    kept = (tmp_path / "metrics-damaged.jsonl").read_text().splitlines()
    assert kept == bad
    assert run.forget_after(1) == ()


def test_json_lines_name_their_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\xff\n{"a": 1e999}\n')
    rows, damaged = check_json_lines(tmp_path / "a.jsonl", dict[str, float])
    assert rows == [{"a": 1.0}]
    assert [one.number for one in damaged] == [2, 3]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.EROFS, errno.ELOOP])
def test_a_lock_that_cannot_be_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.FileLock, "acquire", fail)
    with raises("lock-refused", tmp_path / ".lock", os.strerror(number)), Run(tmp_path, Settings()).hold():
        pytest.fail("the folder was entered")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.FileLock, "acquire", fail)
    with locked(tmp_path / ".lock") as supported:
        assert not supported


def test_a_second_process_does_not_enter(tmp_path: Path) -> None:
    code = "import sys, pathlib; from lookforward.runs.lock import locked\nwith locked(pathlib.Path(sys.argv[1])): pass"
    command = [sys.executable, "-c", code, tmp_path / ".lock"]
    with locked(tmp_path / ".lock"):
        assert b"LockHeld" in subprocess.run(command, capture_output=True, check=False).stderr
        with pytest.raises(LockHeld), locked(tmp_path / ".lock"):
            pass
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_does_not_enter(request: pytest.FixtureRequest) -> None:
    place = tempfile.TemporaryDirectory()  # since nobody else may enter the folders of pytest
    request.addfinalizer(place.cleanup)
    folder = Path(place.name) / "run"
    folder.mkdir()
    for path in (folder, folder.parent):
        path.chmod(0o777)
    code = (
        "import os, sys, pathlib\nfrom lookforward.config.settings import Settings\n"
        "from lookforward.runs.folder import Run\nos.setuid(65534)\n"
        "with Run(pathlib.Path(sys.argv[1]), Settings()).hold(): print('entered')"
    )
    command = [sys.executable, "-c", code, folder]
    with Run(folder, Settings()).hold():
        (folder / ".lock").chmod(0o600)
        done = subprocess.run(command, capture_output=True, check=False)
        assert b"entered" not in done.stdout
        assert b"belongs to root" in done.stderr
    assert b"entered" in subprocess.run(command, capture_output=True, check=False).stdout


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_checkpoints_that_cannot_be_listed_are_not_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: object) -> list[str]:
        raise OSError(number, os.strerror(number))

    assert list_checkpoints(tmp_path / "missing") == []
    monkeypatch.setattr("lookforward.runs.checkpoint.os.listdir", fail)
    with raises("checkpoints-unreadable", tmp_path, os.strerror(number)):
        list_checkpoints(tmp_path)


def test_records_are_json_again() -> None:
    value = {"a": [1, 2.5, {"b": None}], "c": "ü"}
    assert parse_json(json.dumps(value)) == value
