"""JSON and TOML from files, checked as they are read: kinds of values, finite numbers, the file's size and depth.

pydantic checks the kinds. It comes with transformers, and it names every field that is wrong.
"""

import json
import math
import stat
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lookforward.errors import LookforwardError
from lookforward.seals import KEY, unsealed
from lookforward.texts import visible

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

MOST_BYTES = 256 * 2**20  # of a file that is read as a whole
DEEPEST = 50  # lists and tables within one another
_LARGEST = 2**63
_SHOWN = 60  # characters of a wrong value in a message


class DamagedLine(NamedTuple):
    """A line of a file that is not what it should be.

    number: from 1. text: with its line break. problem: what is wrong, and with which field.
    """

    number: int
    text: str
    problem: str


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file. A pipe, which would block, is none. most: bytes that it may have.

    Raises:
        LookforwardError: it cannot be read, or is larger (code "file-unreadable").
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise LookforwardError(f"{path} cannot be read: it is no regular file. Check the path.", "file-unreadable")
        if about.st_size > most:
            size = f"{about.st_size / 2**20:,.0f} MiB, more than {most / 2**20:,.0f}"
            raise LookforwardError(f"{path} cannot be read: it has {size}. Check the path.", "file-unreadable")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise unreadable(path, error) from error


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text in UTF-8, with finite numbers, integers of 64 bits, and at most DEEPEST levels.

    Raises:
        ValueError: it is none; the message says why.
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    _check_tree(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text, with integers of 64 bits, and at most as many levels as JSON may have.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _check_tree(tables)
    return tables


def _check_tree(value: Any) -> None:
    """Raise ValueError for lists and tables of more than DEEPEST levels, and for integers of more than 64 bits."""
    level, depth = [value], 0
    while level:
        for number in (number for one in level for number in _values(one)):
            if isinstance(number, int) and not -_LARGEST <= number < 2 * _LARGEST:
                raise ValueError("a number of more than 64 bits is too large")
        level, depth = [inner for one in level for inner in _values(one) if isinstance(inner, dict | list)], depth + 1
        if level and depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def read_json(path: Path, shape: type[T]) -> T:
    """The JSON in a file, as a `shape`: a dataclass, or a type such as `dict[str, list[float]]`.

    Raises:
        LookforwardError: the file cannot be read (code "file-unreadable"), or is not JSON or of another shape (code
            "file-damaged"); the message names the file and the field.
    """
    try:
        data, _ = unsealed(read_bytes(path))
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    try:
        value = parse_json(data)
    except ValueError as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    return structure(value, shape, path)


def read_json_lines(path: Path, shape: type[T]) -> list[T]:
    """The lines of a JSONL file, each as a `shape`. Leaves out a last line that is cut off, as a kill leaves it.

    Raises:
        LookforwardError: as `read_json` does; the message names the line too.
    """
    rows, damaged = check_json_lines(path, shape)
    if damaged and not damaged[-1].text.endswith("\n"):
        damaged.pop()
    if damaged:
        raise _damaged(f"{path}, line {damaged[0].number},", damaged[0].problem)
    return rows


def check_json_lines(path: Path, shape: type[T]) -> tuple[list[T], list[DamagedLine]]:
    """The lines of a JSONL file that are a `shape`, and those that are not. Blank lines count as neither.

    Where some have a seal, all must.

    Raises:
        LookforwardError: the file cannot be read.
    """
    rows: list[T] = []
    damaged: list[DamagedLine] = []
    lines = [line for line in enumerate(read_bytes(path).splitlines(keepends=True), start=1) if line[1].strip()]
    with_seals = any(f'"{KEY}": '.encode() in line for _, line in lines)
    for number, line in lines:
        try:
            text, sealed = unsealed(line)
            if with_seals and not sealed:
                raise ValueError(f"it has no {KEY} at its end, as other lines have")
            rows.append(_structured(parse_json(text), shape, "$", False))
        except ValueError as error:
            text = line.decode("utf-8", "backslashreplace")
            damaged.append(DamagedLine(number, text, _reason(error)))
    return rows, damaged


def structure(value: Any, shape: type[T], where: object, *, root: str = "$", exact: bool = False) -> T:
    """`value`, as JSON or TOML gives it, as a `shape`. Nothing is converted but whole numbers to floats.

    where, root: what the message calls the file and the value. exact: refuse fields that a class does not have.

    Raises:
        LookforwardError: it has another shape; the message names the field.
    """
    try:
        return _structured(value, shape, root, exact)
    except ValueError as error:
        raise _damaged(where, _reason(error)) from error


def unreadable(path: Path, error: Exception) -> LookforwardError:
    """What to raise when `path` cannot be read."""
    reason = error.strerror if isinstance(error, OSError) else None
    return LookforwardError(
        f"{path} cannot be read: {reason or error}. Check the path and its permissions.", "file-unreadable"
    )


def _structured(value: Any, shape: type[T], root: str, exact: bool) -> T:
    """Raises ValueError, whose message names the fields."""
    from pydantic import ValidationError

    # As JSON, of which alone pydantic takes a table for a class, and nothing else for a number
    text = json.dumps(value, allow_nan=False, default=str)
    try:
        return _adapter(shape).validate_json(text, strict=True, extra="forbid" if exact else "ignore")
    except ValidationError as error:
        problems = [_problem(dict(one), root) for one in error.errors(include_url=False, include_context=False)[:5]]
        raise ValueError("; ".join(problems)) from error


@cache
def _adapter(shape: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(shape)


def _problem(error: dict[str, Any], root: str) -> str:
    place = root
    for key in error["loc"]:
        plain = isinstance(key, str) and key.isidentifier()
        place += f".{key}" if plain else f"[{visible(repr(key), _SHOWN)}]"
    if error["type"] == "missing":
        return f"a value is missing at {place}"
    said = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{said}, found {visible(repr(error['input']), _SHOWN)}, at {place}"


def _reason(error: ValueError) -> str:
    return f"it is not JSON ({error})" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)


def _damaged(where: object, problem: str) -> LookforwardError:
    return LookforwardError(f"{where} is damaged: {problem}.", "file-damaged")


def _values(value: Any) -> Iterable[Any]:
    """What is in a list or a table."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text[:_SHOWN]} is not a finite number")


def _integer(text: str) -> int:
    if len(text) < 21 and -_LARGEST <= (number := int(text)) < 2 * _LARGEST:
        return number
    raise ValueError(f"{text[:_SHOWN]} is too large a number")
