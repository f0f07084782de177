"""What a grid compares: every subject with every method from every seed, on the same prompts and image seeds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lookforward.benchmark.datasets import BenchmarkSubject, Dataset, bundled_dataset, photos_hash
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings

UNTOUCHED = "untouched"
Key = tuple[str, str, int]
"""Subject, method and seed of a cell."""


@dataclass(frozen=True)
class Scoring:
    """How images are scored, where it is not as always.

    identifier_in_clip_text: CLIP-T sees the identifier before the class noun; of every method, the untouched model
    too, so that all are asked alike. extra: further scores, those of `scores.SCORES` on request.
    dino, clip, dinov2: folders or hub ids of other encoders than the model's own.
    """

    identifier_in_clip_text: bool = False
    extra: tuple[str, ...] = ()
    dinov2: str | None = None
    dino: str | None = None
    clip: str | None = None

    def settings(self) -> dict[str, Any]:
        """What a cell is to say of it: nothing where it is as always, as in cells of before there was a choice."""
        told: dict[str, Any] = {}
        if self.identifier_in_clip_text:
            told["identifier_in_clip_text"] = True
        if self.extra:
            told["extra_scores"] = sorted(self.extra)
        return told | self.encoders()

    def encoders(self) -> dict[str, str]:
        """The encoders that were chosen instead of the model's own."""
        chosen = {"dino": self.dino, "clip": self.clip, "dinov2": self.dinov2}
        return {name: source for name, source in chosen.items() if source}


@dataclass(frozen=True)
class Plan:
    """What to compare.

    methods: label to (recipe, overrides); the label "untouched" stands for the model as it is, asked for the
    class noun. prompts: templates; None stands for the data set's own for each subject. images: per prompt.
    count: how many of the data set's prompts, see `spread_prompts`; None stands for all.
    """

    subjects: tuple[str, ...]
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...] | None = None
    images: int = 1
    count: int | None = None
    dataset: Dataset = field(default_factory=bundled_dataset)
    scoring: Scoring = Scoring()

    def subject(self, name: str) -> BenchmarkSubject:
        """A subject by its name in the plan."""
        return self.dataset.find(name)

    def prompts_of(self, subject: str) -> tuple[str, ...]:
        """The templates that are asked of one subject."""
        if self.prompts:
            return self.prompts
        templates = self.subject(subject).prompts
        return templates if self.count is None else spread_prompts(templates, self.count)

    def cells(self) -> Iterator[Key]:
        """All cells, a subject with all its methods and seeds before the next."""
        for subject in self.subjects:
            for seed in self.seeds:
                for method in self.methods:
                    yield subject, method, seed

    def settings(self, method: str, seed: int = 0) -> Settings:
        """The settings of a method, without its subject."""
        recipe, overrides = self.methods[method]
        return load_settings(recipe, {**overrides, "run.seed": seed})

    def image_seeds(self, subject: str, seed: int) -> list[int]:
        """Of each image: the same for every method, others for every training seed."""
        return [10_000 * (seed + 1) + i for i in range(len(self.prompts_of(subject)) * self.images)]

    def settings_of(self, key: Key) -> dict[str, Any]:
        """What a finished cell must have been run with to count as this one."""
        subject, method, seed = key
        settings: dict[str, Any] = {
            "config": self.settings(method, seed).flat() | {"run.recipe": ""},
            "prompts": list(self.prompts_of(subject)),
            "images": self.images,
            **self.scoring.settings(),
        }
        one = self.subject(subject)
        if one.photos is not None:  # else the name says all: cells of before there were data sets have no more
            settings |= {"class_noun": one.class_noun, "photos": photos_hash(one.photos)}
        return settings


def cell_name(key: Key) -> str:
    """What the files of a cell are called."""
    subject, method, seed = key
    return f"{subject}.{method}.{seed}"


def spread_prompts(templates: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` of the templates, kinds in turn (scenes, outfits, looks) as far as they go, in their own order."""
    kinds: dict[str, list[str]] = {}
    for template in templates:
        kinds.setdefault(prompt_kind(template), []).append(template)
    longest = max(map(len, kinds.values()))
    in_turn = [kind[i] for i in range(longest) for kind in kinds.values() if i < len(kind)]
    chosen = set(in_turn[:count])
    return tuple(template for template in templates if template in chosen)


def prompt_kind(template: str) -> Literal["scene", "outfit", "look"]:
    """What a template asks for: another place, other clothes, or another look of the subject itself."""
    if template.rstrip(". ").endswith("{class_noun}"):
        return "look"
    return "outfit" if re.search(r"\bwearing\b|\boutfit\.?$", template) else "scene"
