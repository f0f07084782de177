"""What the groups share: a place for files, and one rule for what may come of an input."""

import atexit
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lookforward.errors import LookforwardError

CORPUS = Path(__file__).parent / "corpus"
GROUPS = ("settings", "manifests", "logs", "cells", "texts", "images", "databases", "weights", "adapters", "models")
Reader = Callable[[bytes], object]
_reading: list[Reader] = []


class Contacted(BaseException):
    """A reader looked up a host, which no file may make it do. No handler for ordinary errors takes it."""


class NoInput(Exception):
    """The input makes no file: it says nothing of the reader."""


@cache
def watch_network() -> None:
    """Stop whatever looks up a host, for as long as `attempt` reads."""

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and _reading:
            raise Contacted(f"{details[0]!r} was looked up")

    sys.addaudithook(watch)


def attempt(readers: Sequence[Reader], data: bytes) -> bool:
    """Give an input to the reader that its first byte names; returns whether it was read, and not refused.

    Raises:
        Exception, Contacted: a finding, whatever it is.
    """
    if not data:
        return False
    watch_network()
    reader = readers[(data[0] - ord("a")) % len(readers)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _reading.append(reader)
        try:
            reader(data[1:])
        except (LookforwardError, NoInput):
            return False
        finally:
            _reading.clear()
    return True


@cache
def place() -> Path:
    """A folder of this process, in memory where that is possible."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() and "/dev/shm" not in tempfile.gettempdir() else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fresh(name: str) -> Path:
    """An empty folder."""
    folder = place() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def written(name: str, data: bytes) -> Path:
    """A file of `place` with some content."""
    path = place() / name
    path.write_bytes(data)
    return path


def as_json(data: bytes, *keys: str) -> Any:
    """The JSON of an input that a file is made from; with keys, a table that has them.

    Raises:
        NoInput: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NoInput from error
    if keys and not (isinstance(value, dict) and all(key in value for key in keys)):
        raise NoInput
    return value


def corpus(group: str) -> list[Path]:
    """The inputs of a group that are kept."""
    return sorted(path for path in (CORPUS / group).iterdir() if path.name[0] != ".")
