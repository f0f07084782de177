"""Digests beside and within files, so that a changed byte is noticed when they are read.

A folder (a checkpoint, an export) has a file SHA256SUMS: the SHA-256 of each of its files, in the format that
`sha256sum --check` reads. Its last line is the SHA-256 of the lines before it. A single file (of a cache) has a seal:
the SHA-256 of all of its other bytes, within it.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookforward.errors import LookforwardError, warn
from lookforward.files import (
    PARTIAL,
    REMEDY,
    atomic_file,
    atomic_folder,
    digest_file,
    save_tensors,
    unreadable,
    write_text,
)

if TYPE_CHECKING:
    from torch import Tensor

SUMS = "SHA256SUMS"
_LAST = "# sha256 of the lines above: "
_LINE = re.compile(r"([0-9a-f]{64})  (?!/)(.+)")
_FOR_PEOPLE = (".md", ".png")  # a card may be edited: what is drawn does not depend on it
_ZEROS = "0" * 64
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_SEAL_SIZE = 83  # bytes of a PNG chunk with a seal
_KNOWN: dict[Path, tuple[object, ...]] = {}  # folders that were found whole: the sizes and times of their files


@dataclass(frozen=True)
class Check:
    """What was found of one folder or file.

    state: "whole"; "edited": only files for people, such as the card, are others; "damaged"; or "unknown", which has no
    digests, since an earlier version wrote it. problems: what is changed or missing, in words.
    """

    path: Path
    state: str
    problems: tuple[str, ...] = ()


@contextmanager
def whole_folder(folder: Path, remedy: str = REMEDY, *, shared: bool = False) -> Iterator[Path]:
    """`atomic_folder`, with digests of all that was written into it. Raises as it does."""
    with atomic_folder(folder, remedy, shared=shared) as partial:
        yield partial
        write_sums(partial)


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of all files in a folder. Raises OSError."""
    (folder / SUMS).unlink(missing_ok=True)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{digest}  {name}\n" for name, digest in _digests(folder, names).items())
    write_text(folder / SUMS, f"{lines}{_LAST}{_sha256(lines)}\n")


def check_whole(folder: Path) -> tuple[Check, ...]:
    """Check every digest in a run, an export, a checkpoint or a cache; one result for each folder and file with some.

    Raises:
        LookforwardError: a file cannot be read.
    """
    if folder.is_file():
        return (_check_file(folder),)
    if (folder / SUMS).exists():
        return (check_folder(folder),)
    marks = {"lookforward.json", "state.json", SUMS}
    found = {path.parent for path in folder.rglob("*") if path.name in marks}
    folders = sorted(one for one in found if not any(part.startswith(PARTIAL) for part in one.parts))
    kinds = ("candidates", "class-images", "encoded")
    sealed = [path for kind in kinds for path in sorted(folder.glob(f"{kind}/**/*.*"))]
    files = [path for path in sealed if path.is_file() and not path.name.startswith(".")]
    return (*(check_folder(one) for one in folders), *(_check_file(path) for path in files))


def check_folder(folder: Path) -> Check:
    """Compare the files of a folder with its SHA256SUMS.

    Raises:
        LookforwardError: a file cannot be read.
    """
    try:
        text = (folder / SUMS).read_bytes()
    except FileNotFoundError:
        return Check(folder, "unknown")
    except OSError as error:
        raise unreadable(folder / SUMS, error) from error
    sums = _parse(text)
    if sums is None:
        return Check(folder, "damaged", (f"{SUMS} was changed",))
    missing = [name for name in sums if not os.path.isfile(folder / name)]  # False where Path raises
    try:
        now = _digests(folder, [name for name in sums if name not in missing])
    except OSError as error:
        raise unreadable(folder, error) from error
    others = [*missing, *(name for name, digest in now.items() if digest != sums[name])]
    problems = tuple(f"{name} {'is missing' if name in missing else 'was changed'}" for name in others)
    serious = any(not name.endswith(_FOR_PEOPLE) for name in others)
    return Check(folder, "damaged" if serious else "edited" if others else "whole", problems)


def require_whole(folder: Path, what: str, remedy: str, *, expected: bool) -> None:
    """Refuse a damaged folder; warn of one without digests, or whose card was edited.

    what: it is, in the message. remedy: a sentence. expected: whether there must be digests.

    Raises:
        LookforwardError: the folder is damaged (code "damaged").
    """
    signature = _signature(folder)
    if _KNOWN.get(folder) == signature:
        return
    check = check_folder(folder)
    if check.state == "unknown" and expected:
        check = Check(folder, "damaged", (f"{SUMS} is missing",))
    if check.state == "damaged":
        raise LookforwardError(f"{what} {folder} is damaged: {'; '.join(check.problems)}. {remedy}", "damaged")
    if check.state == "unknown":
        warn(f"{what} {folder} has no {SUMS}: an earlier version wrote it, so damage to it cannot be noticed.")
        return
    if check.state == "edited":
        warn(f"{folder}: {'; '.join(check.problems)} since it was written. Its images do not depend on that.")
    _KNOWN[folder] = signature


def seal_png(png: bytes) -> bytes:
    """A PNG file with a seal before its end."""
    body = png.removesuffix(_IEND)
    chunk = b"tEXtsha256\0" + hashlib.sha256(body).hexdigest().encode()
    return body + len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + _IEND


def png_state(png: bytes) -> str:
    """The state of a PNG file: "whole", "damaged" or "unknown", as of `Check`."""
    end = len(_IEND) + _SEAL_SIZE
    if png == seal_png(png[:-end] + _IEND):
        return "whole"
    return "damaged" if b"tEXtsha256" in png[-end:] or not png.endswith(_IEND) else "unknown"


def write_sealed_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str], *, shared: bool = False
) -> None:
    """`write_tensors`, with a seal in the metadata. Raises as it does."""
    with atomic_file(path, shared=shared) as partial:
        save_tensors(partial, tensors, {**metadata, "sha256": _ZEROS})
        found = _read_seal(partial)
        assert found is not None
        start, _, digest = found
        with partial.open("r+b") as file:
            file.seek(start)
            file.write(digest.encode())


def tensors_state(path: Path) -> str:
    """The state of a safetensors file: "whole", "damaged" or "unknown", as of `Check`. Raises OSError."""
    found = _read_seal(path)
    if found is None:
        return "unknown"
    _, stored, digest = found
    return "whole" if stored == digest else "damaged"


def _read_seal(path: Path) -> tuple[int, str, str] | None:
    """Where the seal of a safetensors file is, what it says, and what it must say; None if there is none."""
    with path.open("rb") as file:
        size = file.read(8)
        length = int.from_bytes(size, "little")
        if length > path.stat().st_size:
            return 0, "cut off", ""
        header = file.read(length)
        match = re.search(rb'"sha256":"([^"]{64})"', header)
        if match is None:
            return None
        digest = hashlib.sha256(size + header[: match.start(1)] + _ZEROS.encode() + header[match.end(1) :])
        while block := file.read(2**20):
            digest.update(block)
    return 8 + match.start(1), match[1].decode("latin-1"), digest.hexdigest()


def _check_file(path: Path) -> Check:
    try:
        state = png_state(path.read_bytes()) if path.suffix == ".png" else tensors_state(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return Check(path, state, ("its digest does not fit",) if state == "damaged" else ())


def _parse(text: bytes) -> dict[str, str] | None:
    """The names and digests of SHA256SUMS; None if a byte of it was changed."""
    try:
        lines, mark, last = text.decode().rpartition(_LAST)
    except UnicodeDecodeError:
        return None
    found = [_LINE.fullmatch(line) for line in lines.splitlines()]
    if not mark or last != f"{_sha256(lines)}\n" or not all(found):
        return None
    sums = {match[2]: match[1] for match in found if match}
    return None if any(".." in Path(name).parts for name in sums) else sums


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(4) as pool:  # hashlib lets other threads run
        return dict(zip(names, pool.map(lambda name: digest_file(folder / name), names), strict=True))


def _signature(folder: Path) -> tuple[object, ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path), (s := path.stat()).st_size, s.st_mtime_ns, s.st_ino) for path in files)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
