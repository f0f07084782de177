"""The door to Toybox, the models that `pip install lookforward[toybox]` adds.

No other module of lookforward imports lookforward_toybox.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    import numpy as np

    from lookforward.core.benchmark_subject import BenchmarkSubject
    from lookforward.core.specs import ScoreSpec

TOYBOX = "toybox"  # as `--model`: the bundle's default model; as `--dataset`: the test subjects of its world
BUNDLED = (TOYBOX, "toybox-sd", "toybox-128")  # what `--model` calls the bundle's models
CARD = "subject.json"  # beside photos that the bundle drew: which of its subjects they show, in which edition
FIRST_EDITION = 64  # pixels; of its world, where a card names none


@dataclass(frozen=True)
class BundledModel:
    """A model of the bundle, with all in which it differs from another.

    name: its own, whatever the default model is. family: name of its family. size: side of its images in pixels; the
    world is drawn for it at this size. pipeline: a folder, as diffusers reads it. encoders: folders of those that its
    images are measured with: clip, dino and identity. constant: what Python code calls the pipeline's folder.
    speed, memory: seconds a training step and an image, scores included, and MiB of a training of all weights.
    ceiling: for objects and for live subjects, the scores of other pictures of the same subject.
    defaults: the settings that differ on it, by table and name. plain: those of `evaluation` that the untouched model
    is drawn with. digest: what runs record of its weights; "" if they have not been shipped.
    """

    name: str
    family: str
    size: int
    pipeline: Path
    encoders: Mapping[str, Path]
    constant: str
    speed: tuple[float, float]
    memory: int
    ceiling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    @property
    def present(self) -> bool:
        """Whether its weights are installed."""
        return self.pipeline.is_dir()


class Bundle(Protocol):
    """What the library needs of the bundled models and their world."""

    @property
    def MODELS(self) -> Mapping[str, BundledModel]:
        """The models by what `--model` calls them, those without weights too; "toybox" is the default one."""
        ...

    @property
    def SCORES(self) -> "Sequence[ScoreSpec]":
        """Scores that only its world can take."""
        ...

    @property
    def DATASETS(self) -> Sequence[str]:
        """The names that `--dataset` takes."""
        ...

    def places(self) -> Sequence[str]:
        """The places that its models know in words, such as "on the beach"."""
        ...

    def subjects(self, dataset: str = "toybox-all", model: str = TOYBOX) -> "tuple[BenchmarkSubject, ...]":
        """The subjects of one of DATASETS, or all, drawn for a bundled model; for the default one if it is another."""
        ...

    def describe_subjects(self, names: Sequence[str]) -> str:
        """How many of them are for development and how many for tests, in words."""
        ...

    def known_drawing(self, folder: Path) -> "np.ndarray | None":
        """The drawing (size, size, 4) in [0, 1] of the subject in a folder of photos, in their edition; None for any
        other subject."""
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


def known_model(name: str) -> BundledModel | None:
    """The bundled model of that name, with weights or without; None for any other model, or without the bundle."""
    bundle = find_bundle() if name in BUNDLED else None
    return bundle.MODELS[name] if bundle else None


def bundled_model(name: str) -> BundledModel | None:
    """The bundled model of that name, to be loaded; None for any other model.

    Raises:
        LookforwardError: the bundle is not installed ("toybox-missing"), or has no weights of that model
            ("toybox-weights-missing").
    """
    if name not in BUNDLED:
        return None
    models = require_bundle().MODELS
    if not models[name].present:
        there = ", ".join(other for other, model in models.items() if model.present)
        raise LookforwardError(
            f"This version of Toybox has no weights of {name}: choose --model {there}, a pipeline folder or a hub ID.",
            code="toybox-weights-missing",
        )
    return models[name]


def present_name(name: str, digest: str) -> str:
    """What the bundled model is called now that runs and exports call `name`: "toybox" was another one once.

    digest: what they record of its weights. Any other name is returned as it is, and one whose weights are unknown.
    """
    model, bundle = known_model(name), find_bundle() if name in BUNDLED else None
    if model is None or bundle is None or not digest or model.digest == digest:
        return name
    return next((other for other, one in bundle.MODELS.items() if one.digest == digest), name)
