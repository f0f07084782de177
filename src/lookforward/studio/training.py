"""From the training form to a command of `lookforward train`, checked as that checks it; and what it will cost."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lookforward.adapters import ADAPTERS
from lookforward.benchmark.estimate import assumed_speed
from lookforward.bundle import BUNDLED, TOYBOX, known_model
from lookforward.config.reading import flatten, read_toml
from lookforward.config.recipe import MEASUREMENTS, RECIPES, load_settings, recipe_names, require_followed, until_best
from lookforward.config.settings import FIELDS, Settings
from lookforward.data.subjects import read_subject
from lookforward.errors import LookforwardError
from lookforward.models.families import family_named
from lookforward.records import parse_toml
from lookforward.runs.folder import Run, open_run
from lookforward.studio.store import Store
from lookforward.studio.workspace import Workspace, check_name

_OF_THE_FORM = {
    "subject.photos", "subject.class_noun", "subject.identifier", "subject.others", "model.name", "adapter.name",
    "run.recipe",
}  # fmt: skip
_LAST = 50  # steps that a time is taken from


@dataclass(frozen=True)
class Request:
    """What the form says. identifier, output: "" for the default. steps, resolution: 0 for the recipe's.

    measure: whether to measure while training. until_best: whether that decides the number of steps. more: further
    settings as lines of TOML with dotted names.
    """

    subject: str
    class_noun: str
    recipe: str = "look-forward"
    adapter: str = "full"
    model: str = TOYBOX
    identifier: str = ""
    steps: int = 0
    resolution: int = 0
    seed: int = 0
    measure: bool = True
    until_best: bool = False
    more: str = ""
    output: str = ""


@dataclass(frozen=True)
class Prepared:
    """A run that can begin. words: of the command. notes: for the user, of the photos."""

    run: str
    settings: Settings
    words: list[str]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Time:
    """How long a run will take. source: what that is based on, in words."""

    seconds: float
    source: str


def recipe_notes() -> dict[str, str]:
    """What each bundled recipe is, in a sentence."""
    return {name: str(read_toml(RECIPES / f"{name}.toml").get("about", "")) for name in recipe_names()}


def adapter_notes() -> dict[str, str]:
    """What each adapter trains, in a few words."""
    return {spec.name: f"trains {spec.help.removeprefix(f'{spec.label}: ')}" for spec in ADAPTERS}


def model_notes(models: Sequence[str]) -> dict[str, str]:
    """What each model is, as far as this machine knows it: the hub is not asked."""
    notes = {}
    for name in models:
        bundled = known_model(name) if name in BUNDLED else None
        if bundled is None and not os.path.exists(name):
            notes[name] = "from the hub, downloaded when it is first used"
            continue
        family = family_named(name)
        size = bundled.size if bundled else family.defaults.get("data", {}).get("resolution")
        notes[name] = f"{family.label}{f', {size} pixels' if size else ''}"
        notes[name] += "; bundled, small enough for a CPU" if bundled else ""
    return notes


def resolve(request: Request, workspace: Workspace) -> tuple[Settings, dict[str, Any]]:
    """The settings of a run, and those that the user gave, by dotted names.

    Raises:
        LookforwardError: something in the form is wrong; the message names it.
    """
    if request.model not in workspace.models:
        raise LookforwardError(
            f"The studio was not opened with the model {request.model[:80]!r}: choose one of the list.", "model-unknown"
        )
    if request.recipe not in recipe_names():
        raise LookforwardError(f"There is no recipe {request.recipe[:80]!r}: choose one of the list.", "recipe-missing")
    given: dict[str, Any] = {"subject.class_noun": " ".join(request.class_noun.split()), "model.name": request.model}
    given |= {"adapter.name": request.adapter} if request.adapter != "full" else {}
    chosen = {
        "subject.identifier": " ".join(request.identifier.split()),
        "run.steps": request.steps,
        "data.resolution": request.resolution,
        "run.seed": request.seed,
    }
    given |= {name: value for name, value in chosen.items() if value}
    for name, value in _more(request.more).items():
        if name in given:
            raise LookforwardError(
                f"{name} is in the form already: remove it from the further settings.", "setting-twice"
            )
        given[name] = value
    if not given["subject.class_noun"]:
        raise LookforwardError("Say what the subject is, such as dog.", "words-empty")
    settings = load_settings(request.recipe, given)
    require_followed(settings, given)
    if request.until_best:
        return until_best(settings, given), given
    if request.measure and "evaluation.every" not in given:
        given["evaluation.every"] = max(1, settings.run.steps // MEASUREMENTS)
        settings = load_settings(request.recipe, given)
    return settings, given


def prepare(request: Request, workspace: Workspace, store: Store) -> Prepared:
    """Check everything that `lookforward train` checks before it loads the model.

    Raises:
        LookforwardError: there is no consent, or photos or settings are wrong.
    """
    folder = workspace.subject(request.subject)
    consent = store.subject(request.subject).consent
    if not consent:
        raise LookforwardError(
            f"Confirm first, on the tab Subject, that you may train on the photos of {request.subject}.", "consent"
        )
    settings, given = resolve(request, workspace)
    subject = read_subject(folder, settings)
    name = check_name(request.output or default_run(request), "name of the run")
    workspace.run(name)
    photos = f"{workspace.photos.name}/{request.subject}"
    words = ["train", photos, f"--recipe={request.recipe}", f"--output={workspace.runs.name}/{name}", *_options(given)]
    words += [f"--consent={consent}"]
    words += ["--until-best"] if request.until_best else []
    notes = tuple(note for one in subject.together for note in (*one.notes, one.summary))
    return Prepared(name, settings, words, notes)


def default_run(request: Request) -> str:
    """As `lookforward train` names a run folder."""
    adapter = "" if request.adapter == "full" else f"-{request.adapter}"
    return f"{request.subject}-{request.recipe}{adapter}"[:80]


def resume_words(run: Run, workspace: Workspace) -> list[str]:
    """The command that continues a run which was begun elsewhere.

    Raises:
        LookforwardError: its photos are not among the studio's, or its recipe is a file.
    """
    settings, subject = run.settings, run.settings.subject
    name = next((n for n in workspace.subjects() if _same(workspace.subject(n), subject.photos, workspace)), None)
    if name is None or settings.run.recipe not in recipe_names() or subject.others:
        raise LookforwardError(
            f"{run.folder.name} was begun with photos or a recipe from elsewhere: run its training command again.",
            "resume-elsewhere",
        )
    own = {"subject.class_noun": subject.class_noun, "model.name": settings.model.name}
    own |= {"adapter.name": settings.adapter.name} if settings.adapter.name != "full" else {}
    plain = load_settings(settings.run.recipe, own).flat()
    skipped = {"subject.photos", "run.recipe", "subject.others"}
    given = own | {n: v for n, v in settings.flat().items() if v != plain[n] and n not in skipped}
    photos, output = f"{workspace.photos.name}/{name}", f"{workspace.runs.name}/{run.folder.name}"
    return ["train", photos, f"--recipe={settings.run.recipe}", f"--output={output}", *_options(given)]


def estimate_time(settings: Settings, workspace: Workspace) -> Time:
    """The time of a run: by the steps of earlier runs that are like it, or else by what is assumed of the model."""
    alike = [name for name in workspace.run_names() if _alike(name, settings, workspace)]
    found = [s for name in alike[:3] for s in step_seconds(open_run(workspace.run(name)).read_metrics())]
    step, image = assumed_speed(settings.model.name)
    source = f"{step:g} s a step is assumed; after the first run like this one it is measured"
    if found:
        step, source = median(found), f"as the steps of {alike[0]} took"
    steps, asked = settings.run.steps, settings.evaluation
    images = 4 * (steps // asked.sample_every if asked.sample_every else 0)
    images += asked.images * (steps // asked.every + 1) if asked.every else 0
    images += settings.data.class_images if settings.objective.prior_weight > 0 else 0
    return Time(steps * step + images * image, f"{source}, and {image:g} s an image")


def step_seconds(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The seconds of the last steps of a log."""
    return [float(row["seconds"]) for row in rows[-_LAST:] if isinstance(row.get("seconds"), int | float)]


def _alike(name: str, settings: Settings, workspace: Workspace) -> bool:
    try:
        other = open_run(workspace.run(name)).settings
    except LookforwardError:
        return False
    names = ("run.recipe", "adapter.name", "model.name", "data.resolution", "run.batch_size")
    return all(other.flat()[one] == settings.flat()[one] for one in names)


def _same(folder: Any, photos: str, workspace: Workspace) -> bool:
    return (workspace.folder / photos).resolve() == folder.resolve()


def _more(text: str) -> dict[str, Any]:
    """Further settings: numbers, switches and choices. None that names a file or a function, which the browser may not.

    Raises:
        LookforwardError: a line is no setting, or one that the browser may not set.
    """
    try:
        values = flatten(parse_toml(text))
    except ValueError as error:
        raise LookforwardError(
            f"The further settings cannot be read ({error}): write one a line, such as critic.weight = 0.5.",
            "toml-damaged",
        ) from error
    for name in values:
        one = FIELDS.get(name)
        if one is not None and (name in _OF_THE_FORM or (one.kind is str and not one.choices)):
            raise LookforwardError(f"{name} cannot be set here: use the command line.", "setting-of-files")
    return values


def _options(given: Mapping[str, Any]) -> list[str]:
    """Settings as words of the command line; a value never begins a word of its own, so that none is an option."""
    words = []
    for name, value in given.items():
        group, _, key = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{group}.{'' if value else 'no-'}{key}")
        else:
            words.append(f"--{group}.{key}={value}")
    return words
