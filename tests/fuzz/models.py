"""Pipeline folders: one JSON file of the tiny model is another one."""

import json
import shutil
from functools import cache
from pathlib import Path

from conftest import make_pipeline
from fuzz.common import NoInput, as_json, attempt, place
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.meta import meta_pipeline

FILES = (
    "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
    "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "text_encoder/adapter_config.json",
)  # fmt: skip


@cache
def model() -> Path:
    """The folder as it is."""
    folder = place() / "model"
    make_pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


def _changed(data: bytes) -> Path:
    """The folder with one file that is another; `file` counts within FILES."""
    given = as_json(data, "file", "content")
    folder = place() / "changed-model"
    if not folder.exists():
        shutil.copytree(model(), folder)
    for name in FILES:
        if (model() / name).is_file():
            shutil.copy(model() / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    if type(given["file"]) is not int or given["file"] not in range(len(FILES)):
        raise NoInput
    (folder / FILES[given["file"]]).write_text(json.dumps(given["content"]))
    return folder


def load(data: bytes) -> None:
    load_pipeline(_changed(data))


def plan(data: bytes) -> None:
    """Without its weights, as memory is estimated."""
    meta_pipeline(_changed(data))


READERS = (load, plan)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
