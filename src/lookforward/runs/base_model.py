"""The base model of a run, by the name that it goes by now."""

from pathlib import Path
from typing import Any

from lookforward.bundle import BUNDLED, present_name
from lookforward.config.reading import with_values
from lookforward.config.settings import Settings
from lookforward.errors import LookforwardError
from lookforward.records import read_json

MODEL = "model.json"  # in a run: name, revision, commit and hash


def named_as_now(settings: Settings, folder: Path) -> Settings:
    """The settings of the run in `folder` with the present name of its bundled model, as far as the run recorded its
    weights: what was "toybox" once may be "toybox-sd" now."""
    name = settings.model.name
    if name not in BUNDLED:
        return settings
    try:
        digest = str(read_json(folder / MODEL, dict[str, Any]).get("hash", ""))
    except LookforwardError:  # nobody needs the file for anything else
        return settings
    return with_values(settings, {"model.name": present_name(name, digest)})


def other_model(before: str, now: str) -> str:
    """What to do where a run on a bundled model is to go on with another; "" if it is not."""
    return f"To continue it, give --model {before}. " if before != now and before in BUNDLED else ""
