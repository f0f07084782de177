"""Write what users load elsewhere: whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookforward.core.protocols import Adapter
from lookforward.errors import LookforwardError
from lookforward.exports.card import Card
from lookforward.files import atomic_folder, write_json
from lookforward.runs.folder import MANIFEST


def export(adapter: Adapter, policy: Any, folder: Path, manifest: Mapping[str, Any], card: Card | None = None) -> None:
    """Export the adapter's result into `folder`, replacing what an earlier export left there.

    manifest: what it is, for lookforward itself: `lookforward.json`. card: what it is, for people.

    Raises:
        LookforwardError: the disk is full or cannot be written; an earlier export stays as it is.
    """
    with atomic_folder(folder) as partial:
        adapter.export(policy, partial)
        if card is not None:
            card.write(partial)
        write_manifest(partial, manifest)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `lookforward.json`, with which a folder is an export."""
    write_json(folder / MANIFEST, dict(manifest))


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
