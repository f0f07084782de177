"""What lookforward asks of Toybox; lookforward.bundle describes each part."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lookforward.bundle import TOYBOX
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.prompts import benchmark_prompts
from lookforward_toybox.models import MODELS
from lookforward_toybox.oracle import ORACLE
from lookforward_toybox.subjects import known_drawing, write_photos
from lookforward_toybox.world.edition import EDITIONS
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import LIVE_CLASSES, held_out, names_of

__all__ = [
    "DATASETS",
    "MODELS",
    "SCORES",
    "commands",
    "comparisons",
    "describe_subjects",
    "known_drawing",
    "places",
    "subjects",
]

SCORES = (ORACLE,)
DATASETS = ("toybox", "toybox-development")
_PARTS = {
    "development": "development subjects (recipes were tuned on them, so that they are no final word)",
    "test": "test subjects (no setting was chosen on them)",
}


def places() -> tuple[str, ...]:
    return tuple(SCENES.values())


def subjects(dataset: str = "toybox-all", model: str = TOYBOX) -> tuple[BenchmarkSubject, ...]:
    """dataset: toybox, the 20 test subjects; toybox-development, the ten that settings were chosen on; or all 30."""
    known, edition = held_out(), EDITIONS[MODELS.get(model, MODELS[TOYBOX]).size]
    parts = {"toybox": names_of("test"), "toybox-development": names_of("development")}
    return tuple(
        BenchmarkSubject(
            name,
            known[name].class_noun,
            known[name].class_noun in LIVE_CLASSES,
            benchmark_prompts(known[name].class_noun),
            drawing=partial(edition.drawing, known[name], edition.size),
            write_photos=partial(write_photos, name, size=edition.size),
            edition=edition.size,
        )
        for name in parts.get(dataset, tuple(known))
    )


def describe_subjects(names: Sequence[str]) -> str:
    counts = {part: len({*names} & {*names_of(part)}) for part in ("development", "test")}
    words = [f"{count} {_PARTS[part]}" for part, count in counts.items() if count]
    others = len(names) - sum(counts.values())
    words += [f"{others} that its world does not know"] if others else []
    return f"Toybox, the bundled world: {'; '.join(words)}"


def comparisons() -> Mapping[str, Callable[..., None]]:
    from lookforward_toybox.comparisons import commands
    from lookforward_toybox.encoder_command import pretrain_encoder

    own = {"compare": commands.compare, "ablate": commands.ablate, "demo": commands.demo}
    return own | {"pretrain-encoder": pretrain_encoder}


def commands() -> Mapping[str, Callable[..., None]]:
    from lookforward_toybox import commands, training_commands

    return {
        "photos": commands.photos,
        "sheet": commands.sheet,
        "samples": commands.samples,
        "check": commands.check,
        "curves": training_commands.curves,
        "draw": training_commands.draw,
        "train": training_commands.train_stage,
    }
