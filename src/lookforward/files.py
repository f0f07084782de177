"""Files that are written whole or not at all, and JSON that is checked as it is read (by `records`).

A file or folder is written beside its place as `.partial-NAME`, flushed to the disk and then renamed. After a crash, a
kill or a full disk its place holds what it held before, or all of the new content.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.errors import LookforwardError
from lookforward.records import read_bytes as read_bytes
from lookforward.records import read_json as read_json
from lookforward.records import read_json_lines as read_json_lines
from lookforward.records import structure as structure
from lookforward.records import unreadable as unreadable

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL = ".partial-"  # begins the name of what is not finished
REMEDY = "Earlier files are unchanged: free disk space, then run the same command again."
_OUTPUT = "Earlier files are unchanged: free disk space, or give another --output."


@contextmanager
def atomic_file(path: Path, remedy: str = REMEDY, *, shared: bool = False) -> Iterator[Path]:
    """Yield the path of a partial file to write; afterwards it replaces `path`.

    remedy: the sentence that follows an error of writing. shared: whether other processes may write the same path at
    this time, so that each needs a partial file of its own. The folder of `path` must exist.

    Raises:
        LookforwardError: the disk is full or cannot be written; `path` is as it was before.
    """
    partial = _partial(path, shared)
    try:
        with writing(path, remedy):
            yield partial
            sync(partial)
            partial.replace(path)
            sync(path.parent)
    except BaseException:
        _discard(partial)
        raise


@contextmanager
def atomic_folder(folder: Path, remedy: str = REMEDY, *, shared: bool = False) -> Iterator[Path]:
    """Yield an empty partial folder to fill; afterwards it replaces `folder` and everything in it.

    remedy, shared: as for `atomic_file`. Makes the parents of `folder` where they are missing.

    Raises:
        LookforwardError: the disk is full or cannot be written; `folder` is as it was before.
    """
    partial = _partial(folder, shared)
    try:
        with writing(folder, remedy):
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
            yield partial
            for path in partial.rglob("*"):
                if not path.is_symlink():
                    sync(path)
            sync(partial)
            _put_in_place(partial, folder)
    except BaseException:
        _discard(partial)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and flush the names of those that are new. Raises OSError."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync(path.parent)


def write_text(path: Path, text: str, remedy: str = REMEDY) -> None:
    """Write a text file in UTF-8, atomically. Raises LookforwardError where that fails."""
    with atomic_file(path, remedy) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)  # the names of files may be no text


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON, atomically. Raises LookforwardError where that fails."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str], *, shared: bool = False
) -> None:
    """Write a safetensors file, atomically. The same content gives the same bytes.

    safetensors itself writes the metadata in random order; here it is sorted. shared: as for `atomic_file`.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    with atomic_file(path, shared=shared) as partial:
        save_tensors(partial, tensors, metadata)


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in place, for use within `atomic_file`. Raises OSError or SafetensorError."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, dict(metadata))
    if metadata:
        _sort_metadata(path)


def leads_out(path: Path, folder: Path) -> bool:
    """Whether `path` is no longer in `folder` once its links and `..` are followed.

    Links in a circle lead out, and names that no file can have, such as one with a zero byte.
    """
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return True


def digest_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path, pattern: str = "*") -> str:
    """The SHA-256, in hexadecimal, of the names and contents of the files that match; hidden ones are left out.

    pattern: of `Path.glob`, such as "**/*.safetensors". Raises OSError where a file cannot be read.
    """
    digest = hashlib.sha256()
    next(folder.iterdir(), None)  # raises where the folder cannot be read; glob finds nothing there
    for path in sorted(folder.glob(pattern)):
        if not path.name.startswith(".") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(bytes.fromhex(digest_file(path)))
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk; a folder only where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def writing(where: Path, remedy: str = _OUTPUT) -> Iterator[None]:
    """Turn errors of writing into one message that names `where` and the remedy. Read nothing inside.

    Raises:
        LookforwardError: instead of OSError, of safetensors' own error, and of the plain Exception that tokenizers
            raises for a full disk.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or type(error) is Exception:
            raise write_error(where, error, remedy) from error
        raise


def write_error(where: Path, error: Exception, remedy: str = REMEDY) -> LookforwardError:
    """What to raise when `where` cannot be written."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return LookforwardError(f"{where} cannot be written: the disk is full. {remedy}", "disk-full")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return LookforwardError(f"{where} cannot be written: {reason}. {remedy}", "not-writable")


def _partial(path: Path, shared: bool) -> Path:
    return path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}" if shared else f"{PARTIAL}{path.name}")


def _put_in_place(partial: Path, folder: Path) -> None:
    """Rename a finished folder. What was there goes only after that, so that a power cut leaves one of them."""
    before = _partial(folder.with_name(f"replaced-{folder.name}"), True)
    _discard(before)
    if os.path.lexists(folder):
        folder.rename(before)
    try:
        partial.rename(folder)
    except OSError:
        if os.path.lexists(before):
            before.rename(folder)
        raise
    sync(folder.parent)
    _discard(before)


def _discard(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        with suppress(OSError):
            partial.unlink()


def _sort_metadata(path: Path) -> None:
    """Rewrite the header of a safetensors file in place, with sorted metadata."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:
            raise ValueError(f"the header of {path.name} takes {len(text)} bytes and has {size}")
        file.seek(8)
        file.write(text.ljust(size))
