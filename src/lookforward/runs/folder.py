"""The run folder: what a run was asked for, what it did so far, and who may go on with it.

RUN/settings.toml     every setting, resolved
RUN/photos.json     digests of the photos it learns from
RUN/metrics.jsonl   one line a step
RUN/samples/        images drawn while training
RUN/checkpoints/    resumable state
RUN/export/         what other tools load
RUN/exports/        the same of earlier steps, where asked for
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lookforward.config.reading import read_toml, structure, to_toml
from lookforward.config.settings import FIELDS, Settings
from lookforward.errors import LookforwardError
from lookforward.files import read_json_lines, write_error, write_json, write_text

MANIFEST = "lookforward.json"  # in an export: which adapter it holds, and of which model

# What a process that was killed may leave of a run that it was about to begin
_BEGINNING = {"photos.json", ".partial-photos.json", ".partial-settings.toml", ".lock"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and the settings that it was begun with."""

    folder: Path
    settings: Settings

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

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
    def finished(self) -> bool:
        """Whether training went to its end and its result was exported."""
        return (self.export / MANIFEST).is_file()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder and keep other processes from training in it. The system lets go where this one is killed.

        Raises:
            LookforwardError: another process trains here, or the folder cannot be made.
        """
        self._make_folder()
        path = self.folder / ".lock"
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LookforwardError(
                f"Another process trains in {self.folder}: wait for it, or give another --output."
            ) from error
        except OSError:  # a file system without locks; one that cannot be written tells so at the first file
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: a lock of a file that is gone is none, and filelock knows
            lock.release()

    def begin(self, digests: Sequence[str]) -> None:
        """Make the folder, or bring its settings up to date. digests: of the photos' files, in order."""
        self._make_folder()
        write_json(self.folder / "photos.json", list(digests))
        write_text(self.folder / "settings.toml", to_toml(self.settings))  # last: with it, the folder is a run

    def require_photos(self, digests: Sequence[str]) -> None:
        """Raise LookforwardError where these are not the photos that the run learned from, whatever their captions."""
        try:
            before = [str(line).split()[0] for line in json.loads((self.folder / "photos.json").read_text("utf-8"))]
        except (OSError, ValueError, TypeError, IndexError):
            return  # nothing is known of them
        if before != [line.split()[0] for line in digests]:
            raise LookforwardError(
                f"{self.settings.subject.photos} does not hold the photos that {self.folder} learned from. Put them "
                "back, or go to the folder that training was started from."
            )

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise write_error(self.folder, error) from error

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps after `step`: they will be taken, and logged, again."""
        rows = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
        if self.metrics.is_file():
            write_text(self.metrics, "".join(rows))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged steps, oldest first."""
        if not self.metrics.is_file():
            return []
        return read_json_lines(self.metrics, dict[str, Any])


def prepare(folder: Path, settings: Settings, digests: Sequence[str]) -> Run:
    """The run to begin in `folder`, or to go on with where it was begun. Writes nothing; `Run.begin` does.

    digests: of the photos' files, in order.

    Raises:
        LookforwardError: `folder` holds another run or something else, or cannot be written.
    """
    run = Run(folder, settings)
    try:
        if (folder / "settings.toml").is_file():
            _require_same(open_run(folder), settings, digests)
        elif folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - _BEGINNING):
            raise LookforwardError(
                f"{folder} exists and is no run folder (it has no settings.toml); give another --output, or empty it."
            )
    except OSError as error:
        raise LookforwardError(f"{folder} cannot be read: {error.strerror}; give another --output.") from error
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not run.finished and not (place.is_dir() and os.access(place, os.W_OK)):
        raise LookforwardError(f"{folder} cannot be written in {place}; give another --output.")
    return run


def open_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        LookforwardError: there is none, or its settings cannot be read.
    """
    path = folder / "settings.toml"
    if not os.path.isdir(folder):  # os.path answers False where Path raises
        raise LookforwardError(f"There is no run folder {folder}; check the path, or train one first.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise LookforwardError(f"{folder} cannot be read; check its permissions.")
    if not path.is_file():
        raise LookforwardError(f"{folder} is no run folder: it has no settings.toml.")
    try:
        settings = structure(read_toml(path), str(path))
        if not settings.subject.class_noun:
            raise LookforwardError(f"{path} is cut off: it names no class noun.")
    except LookforwardError as error:
        raise LookforwardError(f"{error} Put its settings.toml right, or delete the folder to start anew.") from error
    return Run(folder, settings)


def _require_same(run: Run, settings: Settings, digests: Sequence[str]) -> None:
    before, now = run.settings.flat(), settings.flat()
    differing = [
        f"{name} was {before[name]!r}, now {now[name]!r}"
        for name, one in FIELDS.items()
        if not one.spec.free and before[name] != now[name]
    ]
    kept = run.folder / "photos.json"
    try:
        photos = json.loads(kept.read_text(encoding="utf-8"))
        if not differing and photos != list(digests):
            # A line is the digest of a photo, then those of its caption and mask
            same = [str(line).split()[:1] for line in photos] == [line.split()[:1] for line in digests]
            differing = [f"the {'captions or masks' if same else 'photos'} are not the same files"]
    except (OSError, ValueError):
        differing = ["photos.json cannot be read"]
    if differing:
        raise LookforwardError(
            f"{run.folder} holds another run: {'; '.join(differing)}. Give another --output, or delete the folder.",
            "run-differs",
        )
