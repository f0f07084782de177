"""Write what users load elsewhere: whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookforward.core.protocols import Adapter
from lookforward.errors import LookforwardError, write_error
from lookforward.exports.card import Card
from lookforward.runs.folder import MANIFEST, write_text


def export(adapter: Adapter, policy: Any, folder: Path, manifest: Mapping[str, Any], card: Card | None = None) -> None:
    """Export the adapter's result into `folder`, replacing what an earlier export left there.

    manifest: what it is, for lookforward itself: `lookforward.json`. card: what it is, for people.

    Raises:
        LookforwardError: the disk is full or cannot be written; an earlier export stays as it is.
    """
    with whole_folder(folder, "The checkpoints are intact: make room and give the same command again.") as partial:
        adapter.export(policy, partial)
        if card is not None:
            card.write(partial)
        write_manifest(partial, manifest)


@contextmanager
def whole_folder(folder: Path, remedy: str) -> Iterator[Path]:
    """A folder to write into, which becomes `folder`, or nothing where writing fails; replaces what is there.

    Raises:
        LookforwardError: the disk is full or cannot be written; what was there before stays as it is.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except LookforwardError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except Exception as error:  # safetensors and tokenizers tell of a full disk by errors of their own
        shutil.rmtree(partial, ignore_errors=True)
        raise write_error(folder, error, remedy) from error


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `lookforward.json`, with which a folder is an export."""
    write_text(folder / MANIFEST, json.dumps(dict(manifest), indent=1) + "\n")


def require_new(folder: Path) -> None:
    """Raise LookforwardError where `folder` holds something already."""
    if not folder.name:  # "." and "/" cannot be replaced by a folder that is written beside them
        raise LookforwardError(f"{folder} cannot be written anew; give the name of a new folder as --output.")
    if folder.is_symlink() or os.path.ismount(folder):
        raise LookforwardError(f"{folder} is a link or a mount point, which no new folder can replace; name one in it.")
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise LookforwardError(f"{folder} cannot be read: {error.strerror}; give another --output.") from error
    if taken:
        raise LookforwardError(f"{folder} is there already; give another --output, or delete it.")
