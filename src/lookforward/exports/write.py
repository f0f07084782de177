"""Write an export, whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from lookforward.core.protocols import Adapter
from lookforward.errors import LookforwardError
from lookforward.exports.card import Card
from lookforward.files import unreadable, write_json
from lookforward.runs.folder import MANIFEST
from lookforward.whole import SUMS, whole_folder


def export(adapter: Adapter, policy: Any, folder: Path, manifest: Mapping[str, Any], card: Card | None = None) -> None:
    """Export the adapter's result to `folder`, in place of an earlier export there.

    manifest: what lookforward must know of it, `lookforward.json`. card: what people must know of it.

    Raises:
        LookforwardError: the disk is full or cannot be written; an earlier export stays as it is.
    """
    with whole_folder(folder) as partial:
        adapter.export(policy, partial)
        if card is not None:
            card.write(partial)
        write_manifest(partial, manifest)
        require_finite_weights(partial)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `lookforward.json`, which makes a folder an export."""
    write_json(folder / MANIFEST, {**manifest, "digests": SUMS})


def require_finite_weights(folder: Path) -> None:
    """Raise LookforwardError (code "not-finite") if a weight in the safetensors files of a folder is no number."""
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise LookforwardError(
                        f"The weight {name} is not finite, so nothing is exported: the training diverged. Lower the "
                        "learning rate, or use an earlier checkpoint.",
                        "not-finite",
                    )


def require_new(folder: Path) -> None:
    """Raise LookforwardError unless a new folder can be written at `folder`: it is missing, or empty."""
    if not folder.name:  # "." and "/" cannot be replaced by a folder that is written beside them
        raise LookforwardError(
            f"{folder} cannot be replaced: give the name of a new folder as --output.", "output-name"
        )
    if folder.is_symlink() or os.path.ismount(folder):
        raise LookforwardError(
            f"{folder} is a link or a mount point, which cannot be replaced: name a folder in it.", "output-link"
        )
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise unreadable(folder, error) from error
    if taken:
        raise LookforwardError(f"{folder} exists already: give another --output, or delete it.", "output-taken")
