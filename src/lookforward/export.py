"""Write what users load elsewhere: whole or not at all."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookforward.errors import write_error
from lookforward.protocols import Adapter
from lookforward.run import MANIFEST, write_text


def export(adapter: Adapter, policy: Any, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Export the adapter's result into `folder`, replacing what an earlier export left there.

    manifest: what it is, for lookforward itself: `lookforward.json`.

    Raises:
        LookforwardError: the disk is full or cannot be written; an earlier export stays as it is.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        adapter.export(policy, partial)
        write_text(partial / MANIFEST, json.dumps(dict(manifest), indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except Exception as error:  # safetensors and tokenizers tell of a full disk by errors of their own
        shutil.rmtree(partial, ignore_errors=True)
        remedy = "The checkpoints are intact: make room and give the same command again."
        raise write_error(folder, error, remedy) from error
