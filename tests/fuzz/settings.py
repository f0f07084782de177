"""TOML: settings of a run, recipes, lists of subjects, and lines from the studio's form."""

from fuzz.common import Contacted, NoInput, attempt, fresh, written
from lookforward.assembly import build_evaluators as build_evaluators  # so that recipes find all rewards
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import name_subjects, read_list
from lookforward.runs.folder import open_run
from lookforward.runs.longer import steps_of
from lookforward.studio.training import _more as further_settings


def run(data: bytes) -> None:
    """`settings.toml` of a run folder."""
    folder = fresh("run")
    (folder / "settings.toml").write_bytes(data)
    steps_of(folder / "settings.toml", 1)
    settings = open_run(folder).settings
    settings.changed()


def recipe(data: bytes) -> None:
    """A recipe file."""
    try:
        load_settings(str(written("recipe.toml", data)), {"subject.class_noun": "dog"})
    except Contacted:
        raise NoInput from None  # it may name a model on the hub, whose family the hub is asked for


def subjects(data: bytes) -> None:
    """A list of subjects."""
    path = written("subjects.toml", data)
    read_list(path)
    name_subjects(path, {})


def form(data: bytes) -> None:
    """Further settings from a browser."""
    further_settings(data.decode("utf-8", "replace"))


READERS = (run, recipe, subjects, form)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
