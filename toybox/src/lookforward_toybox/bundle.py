"""What lookforward asks of Toybox; lookforward.bundle describes each part."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.prompts import benchmark_prompts
from lookforward_toybox import SHIPPED
from lookforward_toybox.oracle import ORACLE
from lookforward_toybox.subjects import known_drawing, write_photos
from lookforward_toybox.world.picture import drawing
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import LIVE_CLASSES, held_out, names_of

__all__ = [
    "CEILING",
    "DATASETS",
    "ENCODERS",
    "PIPELINE",
    "SCORES",
    "commands",
    "comparisons",
    "defaults",
    "describe_subjects",
    "known_drawing",
    "places",
    "subjects",
]

PIPELINE = SHIPPED.pipeline
ENCODERS: Mapping[str, Path] = {"clip": SHIPPED.clip, "dino": SHIPPED.dino, "identity": SHIPPED.identity}
SCORES = (ORACLE,)
DATASETS = ("toybox", "toybox-development")
# Measured by `lookforward toybox check`; docs/toybox.md has the same figures, and a test holds the two together
CEILING: Mapping[str, Mapping[str, float]] = {
    "live subjects": {"DINO": 0.805, "CLIP-I": 0.661, "CLIP-T": 0.709, "identity": 0.911, "oracle": 0.912},
    "objects": {"DINO": 0.834, "CLIP-I": 0.680, "CLIP-T": 0.713, "identity": 0.894, "oracle": 0.912},
}
_PARTS = {
    "development": "development subjects (recipes were tuned on them, so that they are no final word)",
    "test": "test subjects (no setting was chosen on them)",
}


def defaults() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "defaults.toml").read_text(encoding="utf-8"))


def places() -> tuple[str, ...]:
    return tuple(SCENES.values())


def subjects(dataset: str = "toybox-all") -> tuple[BenchmarkSubject, ...]:
    """dataset: toybox, the 20 test subjects; toybox-development, the ten that settings were chosen on; or all 30."""
    known = held_out()
    parts = {"toybox": names_of("test"), "toybox-development": names_of("development")}
    return tuple(
        BenchmarkSubject(
            name,
            known[name].class_noun,
            known[name].class_noun in LIVE_CLASSES,
            benchmark_prompts(known[name].class_noun),
            drawing=partial(drawing, known[name]),
            write_photos=partial(write_photos, name),
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
    from lookforward_toybox import commands

    return {
        "photos": commands.photos,
        "sheet": commands.sheet,
        "samples": commands.samples,
        "check": commands.check,
        "curves": commands.curves,
        "draw": commands.draw,
        "train": commands.train_stage,
    }
