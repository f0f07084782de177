"""What `generate`, `export` and `merge` take: a run, an export, a pipeline folder or a hub id."""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from lookforward.adapters import ADAPTERS
from lookforward.adapters.specs import FULL
from lookforward.bundle import BUNDLED, known_model
from lookforward.config.groups import EvaluationSettings
from lookforward.data.subjects import other_subjects
from lookforward.errors import LookforwardError
from lookforward.exports.card import base_name, subject_of
from lookforward.exports.load import apply_export, check_strength, load_export, read_manifest
from lookforward.files import digest_folder
from lookforward.models.families import family_named
from lookforward.models.load_pipeline import build_pipeline, find_device
from lookforward.runs.folder import MANIFEST, OLD_SETTINGS, SETTINGS, Run, open_run

# Of a model that says nothing itself: those of `Settings`
_SAMPLING = EvaluationSettings()
_FAMILYS = {"sample_steps": "sampler_steps", "guidance": "guidance"}
_PLAIN = {"adapter": FULL.name, "identifier": "", "class_noun": "", "noun_in_prompt": True, "resolution": None}


@dataclass(frozen=True)
class Source:
    """A model or an adapter to use. folder: of the export, None for a plain model. run: None if it is not one.
    revision: of a model on the hub, "" for the main branch."""

    given: str
    manifest: dict[str, Any]
    folder: Path | None
    run: Run | None = None
    revision: str = ""

    @property
    def name(self) -> str:
        """A name to show to others: the last part of a path, or the run's name for an export within its run."""
        path = self.run.folder if self.run else Path(self.given)
        if not os.path.isdir(path):
            return self.given
        path = path.resolve()
        if path.parent.name == "exports" and (path.parent.parent / SETTINGS).is_file():
            return f"{path.parent.parent.name}-{path.name}"  # dog-look-forward-step-000400
        return path.parent.name if path.name == "export" else path.name

    @property
    def subject(self) -> str:
        """What prompts call the subject: "sks dog"; "" for a plain model."""
        return subject_of(self.manifest)

    def load(self, device: str = "auto", strength: float = 1.0) -> DiffusionPipeline:
        """The pipeline that draws with it.

        Raises:
            LookforwardError: something of it cannot be loaded.
        """
        if self.folder is None:
            return build_pipeline(self.given, device, revision=self.revision)
        return load_export(self.folder, device, strength)

    def describe(self, strength: float) -> dict[str, Any]:
        """What PNG metadata records of an adapter."""
        folder = self.require_export()
        kind = self.manifest["adapter"]
        return {
            "name": self.name,
            "adapter": kind,
            "strength": strength,
            "hash": digest_folder(folder, "**/*.safetensors")[:10],
        }

    def require_export(self) -> Path:
        """The folder of the export.

        Raises:
            LookforwardError: it is a plain model.
        """
        if self.folder is None:
            raise LookforwardError(f"{self.given} is a base model: give a run folder or an export.", "source-plain")
        return self.folder


def drawn_with(source: Source, digest: str, others: Sequence[tuple[Source, float]] = ()) -> dict[str, Any]:
    """What the metadata of images record of the model that draws them. digest: `model_hash` of its pipeline.

    others: further adapters with their strengths.
    """
    whole = source.manifest["adapter"] == FULL.name
    adapters = [*others] if whole else [(source, 1.0), *others]
    return {
        "model": source.name if whole else base_name(source.manifest["model"]),
        "model_hash": digest,
        "adapters": [other.describe(strength) for other, strength in adapters],
        "run": source.run.folder.resolve().name if source.run else source.name if source.folder else "",
    }


def device_of(source: Source) -> str:
    """Where to draw with it: on the device of its run, or on the best one if this machine has no such device."""
    if source.run is None:
        return "auto"
    try:
        return find_device(source.run.settings.model.device)
    except LookforwardError:
        return find_device("auto")


def _plain_model(name: str, revision: str = "") -> Source:
    bundled = known_model(name)
    own = {**family_named(name, revision).defaults.get("evaluation", {}), **(bundled.plain if bundled else {})}
    sampling = {"sample_steps": _SAMPLING.sampler_steps, "guidance": _SAMPLING.guidance}
    sampling |= {key: own[setting] for key, setting in _FAMILYS.items() if setting in own}
    return Source(name, {"format": 1, **_PLAIN, **sampling, "model": name}, None, revision=revision)


def find_source(given: str | Path, revision: str = "") -> Source:
    """Find out what `given` names, without loading it. revision: of a hub id; the main branch if empty.

    Raises:
        LookforwardError: there is nothing of that name, or a run that is not finished.
    """
    name = str(given)
    if not os.path.lexists(name) and (name in BUNDLED or _could_be_hub_id(name)):
        _require_no_typo(Path(name))
        return _plain_model(name, revision)
    if revision:
        raise LookforwardError(
            f"--revision is for a model on the hub, and {name} is here: leave it out.", code="revision-unused"
        )
    folder = Path(name)
    if os.path.isfile(folder / MANIFEST):  # os.path answers False where Path raises
        return Source(name, read_manifest(folder), folder)
    if os.path.isfile(folder / "model_index.json"):
        return _plain_model(name)
    is_run = any(os.path.isfile(folder / file) for file in (SETTINGS, OLD_SETTINGS))
    if os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK) and not is_run:
        raise LookforwardError(
            f"{folder} is not a run folder (it has no {SETTINGS}), an export ({MANIFEST}) or a pipeline folder "
            "(model_index.json).",
            "source-unknown",
        )
    run = open_run(folder)
    if not run.finished:
        earlier = max(run.exports.glob("step-*"), default=None)
        instead = f", or give its latest export: {earlier}" if earlier else ""
        raise LookforwardError(
            f"{folder} is not finished: run its training command again to continue{instead}.", "run-unfinished"
        )
    return Source(name, read_manifest(run.export), run.export, run)


def find_adapter(given: str, default: float = 1.0) -> tuple[Source, float]:
    """Parse EXPORT or EXPORT:STRENGTH. default: the strength if none is given.

    Raises:
        LookforwardError: there is nothing of that name, or the strength is not a number in [-10, 10].
    """
    name, colon, number = given.rpartition(":")
    if not colon or os.path.lexists(given):
        name, number = given, str(default)
    try:
        strength = float(number)
    except ValueError:
        raise LookforwardError(
            f"{given}: write EXPORT:STRENGTH with a number, such as {name}:0.8.", "strength-number"
        ) from None
    check_strength(strength, given)
    return find_source(name), strength


def add_adapters(
    pipeline: DiffusionPipeline, first: Source, adapters: Sequence[tuple[Source, float]]
) -> tuple[str, ...]:
    """Load further adapters into the pipeline of `first`; returns notes for the user.

    Raises:
        LookforwardError: one is a whole model, or does not fit.
    """
    for source, strength in adapters:
        apply_export(pipeline, source.require_export(), strength)
    return notes_on(first, adapters)


def notes_on(first: Source, adapters: Sequence[tuple[Source, float]]) -> tuple[str, ...]:
    """A note for each adapter that was trained on another model than `first` is or was trained on, for each that
    another one replaces, and for identifiers that two of them share.
    """
    sources = [first, *(source for source, _ in adapters if source is not first)]
    replacing = [spec.name for spec in ADAPTERS if spec.replaces]
    names = [source.name for source in sources if source.manifest["adapter"] in replacing]
    replaced = tuple(
        f"The keys and values of {after} take the place of those of {before}: to draw both subjects, train them "
        "together, from a list."
        for before, after in pairwise(names)
    )
    by_word: dict[str, list[str]] = {}
    for source in sources:
        for word in (source.manifest["identifier"], *(w for w, _ in other_subjects(source.manifest.get("others", "")))):
            if word:
                by_word.setdefault(word.casefold(), []).append(source.name)
    shared = tuple(
        f"{' and '.join(names)} both learned {word!r}, which will draw a mixture of their subjects: train one of them "
        "with another --identifier."
        for word, names in by_word.items()
        if len(names) > 1
    )
    return (
        replaced
        + shared
        + tuple(
            f"{source.name} was trained on {source.manifest['model']}, not on {first.manifest['model']}: it may "
            "draw something else here."
            for source, _ in adapters
            if not _same_model(source.manifest, first.manifest)
        )
    )


def _require_no_typo(path: Path) -> None:
    """Raise LookforwardError for a name within a folder that is there, which is no hub id: runs/dgo-look-forward."""
    parent = path.parent
    if parent != Path() and parent.is_dir():
        near = difflib.get_close_matches(path.name, (one.name for one in parent.iterdir()), n=1)
        hint = f" Did you mean {parent / near[0]}?" if near else ""
        raise LookforwardError(f"There is no {path.name} in {parent}.{hint}", "run-missing")


def _same_model(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two exports were trained on the same weights, wherever these lay."""
    digests = one.get("model_hash"), other.get("model_hash")
    return digests[0] == digests[1] if all(digests) else one["model"] == other["model"]


def _could_be_hub_id(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None
