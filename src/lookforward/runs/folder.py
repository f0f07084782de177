"""The run folder: what was asked for, what has been done, and which process may continue.

RUN/settings.toml   every setting, resolved
RUN/model.json      the base model: name, revision, commit, hash
RUN/photos.json     digests of the photos it learns from
RUN/consent.json    who says that whoever is shown agrees, if somebody does
RUN/metrics.jsonl   one line a step; metrics-damaged.jsonl: lines that could not be read
RUN/micro-batches.json   where --auto-batch cut the batch
RUN/evaluations.jsonl   what was measured while training
RUN/candidates/     weights of the steps that may be the best
RUN/samples/        images drawn while training
RUN/class-images.png a sheet of the class images
RUN/checkpoints/    resumable state
RUN/export/         what other tools load
RUN/exports/        exports of earlier steps, where asked for
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookforward.config.reading import read_toml, structure, to_toml
from lookforward.config.settings import FIELDS, Settings
from lookforward.errors import LookforwardError
from lookforward.files import PARTIAL, REMEDY, make_folder, write_json, write_text, writing
from lookforward.records import read_json, read_json_lines, unreadable
from lookforward.runs.base_model import named_as_now, other_model
from lookforward.runs.consent import CONSENT
from lookforward.runs.lock import LockHeld, locked
from lookforward.runs.log import LogRow, forget_after
from lookforward.runs.longer import may_differ, set_aside, steps_of, why_not
from lookforward.runs.photo_lines import photo_files, what_differs
from lookforward.seals import sealed_json

MANIFEST = "lookforward.json"  # in an export: which adapter it holds, and of which model
SETTINGS, PHOTOS, LOCK = "settings.toml", "photos.json", ".lock"
OLD_SETTINGS = "config.toml"  # of versions whose settings had no groups

# What a process may leave that is killed before its run has begun
_BEGINNING = {LOCK, *(f"{mark}{name}" for name in (PHOTOS, CONSENT, SETTINGS) for mark in ("", PARTIAL))}


@dataclass(frozen=True)
class Run:
    """A run folder and the settings that the run began with."""

    folder: Path
    settings: Settings

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    def sample_sheet(self, step: int) -> Path:
        """Where the images that were drawn after a step are."""
        return self.samples / f"step-{step:06d}.png"

    @property
    def export(self) -> Path:
        return self.folder / "export"

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        return self.folder / "evaluations.jsonl"

    @property
    def candidates(self) -> Path:
        return self.folder / "candidates"

    @property
    def finished(self) -> bool:
        """Whether training reached its end and the result was exported; a run that is made longer is not yet."""
        return (self.export / MANIFEST).is_file() and self._steps_of_export >= self.settings.run.steps

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder and keep other processes from training in it. The system releases it if this one is killed.

        Raises:
            LookforwardError: another process trains here, the lock cannot be taken, or the folder cannot be made. Only
                a file system without locks is entered without one.
        """
        self._make_folder()
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.folder / LOCK))
            except LockHeld as error:
                raise LookforwardError(
                    f"Another process is training in {self.folder}: wait for it, or give another --output.",
                    "run-locked",
                ) from error
            yield

    def make_longer(self) -> None:
        """Set the export of a finished run aside if it is to take further steps. Raises LookforwardError as `begin`."""
        if (self.export / MANIFEST).is_file() and not self.finished:
            set_aside(self.export, self.exports, self._steps_of_export)

    @property
    def _steps_of_export(self) -> int:
        return steps_of(self.folder / SETTINGS, self.settings.run.steps)

    def begin(self, digests: Sequence[str]) -> None:
        """Make the folder, or bring its settings up to date. digests: of the photos, in order.

        Raises:
            LookforwardError: the disk is full or cannot be written.
        """
        self._make_folder()
        write_json(self.folder / PHOTOS, list(digests))
        write_text(self.folder / SETTINGS, to_toml(self.settings))  # last, since it makes the folder a run

    def require_photos(self, digests: Sequence[str]) -> None:
        """Raise LookforwardError if these are not the photos that the run learned from, whatever their captions."""
        before = self._photos()
        if before is not None and photo_files(before) != photo_files(digests):
            raise LookforwardError(
                f"{self.settings.subject.photos} no longer has the photos that {self.folder} learned from. Restore "
                "them, or change to the folder that training was started from.",
                "run-photos",
            )

    def require_same(self, settings: Settings, digests: Sequence[str]) -> None:
        """Raise LookforwardError if a run of these settings and photos would be another one than this."""
        before, now = self.settings.flat(), settings.flat()
        differing = [
            f"{name} was {before[name]!r}, now {now[name]!r}"
            + (why_not(self.settings, settings) if name == "run.steps" else "")
            for name, one in FIELDS.items()
            if not one.spec.free and before[name] != now[name] and name not in may_differ(self.settings, settings)
        ]
        photos = self._photos()
        if photos is None:
            differing = [f"{PHOTOS} cannot be read"]
        elif not differing and photos != list(digests):
            if sorted(photos) == sorted(digests):
                differing = ["the photos are the same, but their names sort in another order"]
            else:
                differing = [f"the {what_differs(photos, digests)} are not the same files"]
        if differing:
            remedy = other_model(before["model.name"], now["model.name"])
            raise LookforwardError(
                f"{self.folder} is another run: {'; '.join(differing)}. {remedy}Give another --output, or delete the "
                "folder.",
                "run-differs",
            )

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl. Raises LookforwardError if it cannot be written."""
        with writing(self.folder, REMEDY), self.metrics.open("a", encoding="utf-8") as file:
            file.write(sealed_json(row) + "\n")

    def forget_after(self, step: int) -> tuple[str, ...]:
        """Delete the lines of steps after `step`, which will be logged again; returns notes. Raises LookforwardError.

        Lines that cannot be read are kept in metrics-damaged.jsonl. Call it once the checkpoint of `step` is loaded.
        """
        return forget_after(self.metrics, step)

    def read_metrics(self) -> list[dict[str, float]]:
        """The logged steps, oldest first. Raises LookforwardError, which names a damaged line and its field."""
        return read_json_lines(self.metrics, LogRow) if self.metrics.is_file() else []

    def _make_folder(self) -> None:
        with writing(self.folder, REMEDY):
            make_folder(self.folder)

    def _photos(self) -> list[str] | None:
        try:
            return read_json(self.folder / PHOTOS, list[str])
        except LookforwardError:
            return None


def prepare(folder: Path, settings: Settings, digests: Sequence[str]) -> Run:
    """The run to begin in `folder`, or to continue where it was begun. Writes nothing; `Run.begin` does.

    digests: of the photos, in order.

    Raises:
        LookforwardError: `folder` is another run or has other files, or cannot be written.
    """
    run = Run(folder, settings)
    try:
        if (folder / SETTINGS).is_file():
            open_run(folder).require_same(settings, digests)
        elif folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - _BEGINNING):
            raise LookforwardError(
                f"{folder} exists and is not a run folder, since it has no {SETTINGS}: give another --output, or empty "
                "it.",
                "output-taken",
            )
    except OSError as error:
        raise unreadable(folder, error) from error
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not run.finished and not (place.is_dir() and os.access(place, os.W_OK)):
        raise LookforwardError(f"{folder} cannot be written in {place}: give another --output.", "not-writable")
    return run


def open_run(folder: Path) -> Run:
    """The run in `folder`. A bundled model has the name in its settings that it goes by now.

    Raises:
        LookforwardError: there is none, or its settings cannot be read.
    """
    path = folder / SETTINGS
    if not os.path.isdir(folder):  # os.path answers False where Path raises
        raise LookforwardError(f"There is no run folder {folder}: check the path, or train one first.", "run-missing")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise LookforwardError(f"{folder} cannot be read: check its permissions.", "file-unreadable")
    if (folder / OLD_SETTINGS).is_file() and not path.exists():
        raise LookforwardError(
            f"{folder} was made by an earlier version of lookforward, which wrote {OLD_SETTINGS}: its export can still "
            "be given, but the run cannot be continued or scored. Train it again with another --output.",
            "run-of-earlier-version",
        )
    if not path.is_file():
        raise LookforwardError(f"{folder} is not a run folder: it has no {SETTINGS}.", "run-missing")
    try:
        settings = structure(read_toml(path), str(path))
        if not settings.subject.class_noun:
            raise LookforwardError(f"{path} is cut off: it names no class noun.")
    except LookforwardError as error:
        remedy = "Correct the file, or delete the folder to start again."
        raise LookforwardError(f"{error} {remedy}", "run-damaged") from error
    return Run(folder, named_as_now(settings, folder))


def default_output(settings: Settings) -> Path:
    """runs/<name of the photos' folder>-<recipe>, with -<adapter> behind it unless that is full."""
    name = Path(settings.subject.photos.split(", ")[0]).resolve().name.removesuffix(".toml") or "photos"
    # A run folder belongs to one adapter
    adapter = "" if settings.adapter.name == "full" else f"-{settings.adapter.name}"
    return Path("runs") / f"{name}-{Path(settings.run.recipe).stem}{adapter}"
