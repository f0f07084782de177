"""The folder that a studio works in, and the only places in it that a browser can name.

FOLDER/photos/SUBJECT   reference photos, captions and masks
FOLDER/runs/RUN         run folders, also those of `lookforward train`
FOLDER/images           images of untouched models
FOLDER/STUDY.sqlite     blind studies, also those of `lookforward study create`
FOLDER/.studio          the queue, logs of runs, uploads, prompts of studies
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lookforward.errors import LookforwardError
from lookforward.files import writing
from lookforward.runs.folder import SETTINGS

_NAME = re.compile(r"\w[\w.+-]{0,79}")
_PICTURE = re.compile(r"\w[\w.+-]{0,120}\.png")
PICTURES = ("samples", "images")  # folders of a run whose images the browser may load
STUDY = ".sqlite"


@dataclass(frozen=True)
class Workspace:
    """The folder of a studio. models: what a browser may train and draw with: toybox, pipeline folders or hub IDs."""

    folder: Path
    models: tuple[str, ...] = ("toybox",)

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def own(self) -> Path:
        return self.folder / ".studio"

    def relative(self, text: str) -> str:
        """A message with paths as seen from the folder: where that lies is not the browser's business."""
        return text.replace(f"{self.folder}/", "").replace(str(self.folder), "the studio's folder")

    def prepare(self) -> None:
        """Make the studio's own folder. Raises LookforwardError where that cannot be done."""
        with writing(self.own):
            for path in (self.photos, self.runs, *(self.own / name for name in ("logs", "uploads", "prompts"))):
                path.mkdir(parents=True, exist_ok=True)

    def subjects(self) -> list[str]:
        """The folders of photos, by name."""
        return [path.name for path in _folders(self.photos)]

    def run_names(self) -> list[str]:
        """The run folders, the latest first."""
        found = [path for path in _folders(self.runs) if (path / SETTINGS).is_file()]
        return [path.name for path in sorted(found, key=_changed, reverse=True)]

    def subject(self, name: str) -> Path:
        """The folder of a subject, which need not be there. Raises LookforwardError for a name that leaves it."""
        return _within(self.photos, name)

    def run(self, name: str) -> Path:
        """The folder of a run, which need not be there. Raises LookforwardError for a name that leaves it."""
        return _within(self.runs, name)

    def study_names(self) -> list[str]:
        """The SQLite files directly in the folder, by name; which of them are studies is not looked at."""
        if not self.folder.is_dir():
            return []
        found = (path.stem for path in self.folder.glob(f"*{STUDY}") if path.is_file() and _NAME.fullmatch(path.stem))
        return sorted(name for name in found if self._study(name).resolve().parent == self.folder.resolve())

    def study(self, name: str) -> Path:
        """The file of a study, which need not be there. Raises LookforwardError for a name that leaves the folder."""
        path = self._study(check_name(name, "name of the study"))
        if path.resolve().parent != self.folder.resolve():
            raise LookforwardError(f"{name} leads out of the studio's folder: use a file of its own.", "studio-path")
        return path

    def _study(self, name: str) -> Path:
        return self.folder / f"{name}{STUDY}"

    def picture(self, run: str, kind: str, name: str) -> Path | None:
        """An image file of a run, or in `images` where run is "-"; None if the browser may not load it."""
        try:
            folder = self.images if run == "-" and kind == "images" else self.run(run) / kind
        except LookforwardError:
            return None
        if kind not in PICTURES or not _PICTURE.fullmatch(name):
            return None
        path = folder / name
        inside = path.resolve().parent == folder.resolve() and folder.resolve().is_relative_to(self.folder.resolve())
        return path if inside and path.is_file() else None

    def delete_run(self, name: str) -> None:
        """Delete a run folder with everything in it.

        Raises:
            LookforwardError: there is none of that name, or it cannot be deleted.
        """
        path = self.run(name)
        if name not in self.run_names():
            raise LookforwardError(f"There is no run {name}: reload the page.", "run-missing")
        with writing(path, "What is left of it is still there: check its permissions."):
            shutil.rmtree(path)


def check_name(name: str, what: str = "name") -> str:
    """The name, if it can be that of a subject or a run.

    Raises:
        LookforwardError: it has other signs than letters, digits and . _ + -, or is too long.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise LookforwardError(
            f"The {what} must have 1 to 80 letters, digits, or . _ + - and begin with a letter or digit.", "studio-name"
        )
    return name


def _within(parent: Path, name: str) -> Path:
    path = parent / check_name(name)
    if path.resolve().parent != parent.resolve():
        raise LookforwardError(f"{name} leads out of {parent.name}: use a folder of its own there.", "studio-path")
    return path


def _folders(parent: Path) -> list[Path]:
    """Folders directly within, without links that lead elsewhere, by name."""
    if not parent.is_dir():
        return []
    home = parent.resolve()
    return sorted(
        path
        for path in parent.iterdir()
        if path.is_dir() and _NAME.fullmatch(path.name) and path.resolve().parent == home
    )


def _changed(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, folder / SETTINGS))
    except OSError:
        return 0.0
