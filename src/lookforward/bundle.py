"""The door to Toybox, the model that `pip install lookforward[toybox]` adds.

No other module of lookforward imports lookforward_toybox.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    import numpy as np

    from lookforward.core.benchmark_subject import BenchmarkSubject
    from lookforward.core.specs import ScoreSpec

TOYBOX = "toybox"  # what `--model` and `--dataset` call it
CARD = "subject.json"  # beside photos that the bundle drew: which of its subjects they show


class Bundle(Protocol):
    """What the library needs of the bundled model and its world."""

    @property
    def PIPELINE(self) -> Path:
        """A pipeline folder, as diffusers reads it."""
        ...

    @property
    def ENCODERS(self) -> Mapping[str, Path]:
        """Folders of the encoders that its images are measured with: clip, dino and identity."""
        ...

    @property
    def CEILING(self) -> Mapping[str, Mapping[str, float]]:
        """For objects and for live subjects: the scores of other pictures of the same subject."""
        ...

    @property
    def SCORES(self) -> "Sequence[ScoreSpec]":
        """Scores that only its world can take."""
        ...

    @property
    def DATASETS(self) -> Sequence[str]:
        """The names that `--dataset` takes."""
        ...

    def defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings that differ on this model, by table and name."""
        ...

    def places(self) -> Sequence[str]:
        """The places that the model knows in words, such as "on the beach"."""
        ...

    def subjects(self, dataset: str = "toybox-all") -> "tuple[BenchmarkSubject, ...]":
        """The subjects of one of DATASETS, or all."""
        ...

    def describe_subjects(self, names: Sequence[str]) -> str:
        """How many of them are for development and how many for tests, in words."""
        ...

    def known_drawing(self, folder: Path) -> "np.ndarray | None":
        """The drawing (size, size, 4) in [0, 1] of the subject in a folder of photos; None for any other subject."""
        ...

    def comparisons(self) -> Mapping[str, Callable[..., None]]:
        """Commands of the main program that need its world or its training: compare, ablate, demo, pretrain-encoder."""
        ...

    def commands(self) -> Mapping[str, Callable[..., None]]:
        """The commands below `lookforward toybox`."""
        ...


def find_bundle() -> Bundle | None:
    """The bundle, or None if it is not installed."""
    try:
        from lookforward_toybox import bundle
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lookforward_toybox":
            raise
        return None
    return bundle


def command_files() -> tuple[Path, ...]:
    """The sources of the commands of `Bundle.comparisons`, which take long to import; none without the bundle."""
    found = find_spec("lookforward_toybox")
    if not found or not found.origin:
        return ()
    folder = Path(found.origin).parent
    return folder / "comparisons" / "commands.py", folder / "encoder_command.py"


def require_bundle() -> Bundle:
    """The bundle.

    Raises:
        LookforwardError: it is not installed.
    """
    bundle = find_bundle()
    if bundle is None:
        raise LookforwardError(
            "Toybox, the bundled model, is not installed. Install it with `pip install lookforward[toybox]`, or choose "
            "another model with --model: a pipeline folder or a hub ID.",
            code="toybox-missing",
        )
    return bundle


def bundle_of(model: str) -> Bundle | None:
    """The bundle if `model` names it, None for any other model.

    Raises:
        LookforwardError: `model` names the bundle, and it is not installed.
    """
    return require_bundle() if model == TOYBOX else None
