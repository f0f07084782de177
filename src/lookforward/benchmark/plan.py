"""What a grid compares: every subject with every method from every seed, on the same prompts and image seeds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lookforward.adapters import ADAPTERS
from lookforward.benchmark.datasets.find import bundled_dataset
from lookforward.benchmark.datasets.values import Dataset, photos_hash
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.report.data import UNTOUCHED, CellKey

RECIPE_LABELS = {
    "dreambooth": "DreamBooth",
    "released": "released code",
    "look-forward": "Look Forward",
    "dino": "DINO reward",
    "look-forward+dino": "Look Forward + DINO reward",
    "text": "Look Forward + CLIP-T reward",
    "best": "best",
    "draft": "DRaFT",
    "dpok": "DPOK",
    "dreambooth-output": "DreamBooth, class kept by output",
    "dco": "DCO",
    "rpo": "RPO",
    "t-lora": "T-LoRA",
    "flow-grpo": "Flow-GRPO",
    "diffusion-nft": "DiffusionNFT",
}


@dataclass(frozen=True)
class Scoring:
    """How images are scored where it differs from the default.

    identifier_in_clip_text: CLIP-T reads the identifier before the class noun; with every method, the untouched model
    too, so that all answer the same text. extra: further scores, see `check_extra_scores`. dino, clip, dinov2: folders
    or hub ids of other encoders than the model's own. steps: of the training, after which all images are drawn and
    scored too, beside those of its result.
    """

    identifier_in_clip_text: bool = False
    extra: tuple[str, ...] = ()
    dinov2: str | None = None
    dino: str | None = None
    clip: str | None = None
    steps: tuple[int, ...] = ()

    def settings(self) -> dict[str, Any]:
        """What a cell records of it: only what differs from the default."""
        recorded: dict[str, Any] = {
            "identifier_in_clip_text": self.identifier_in_clip_text,
            "extra_scores": sorted(self.extra),
        }
        recorded["scored_steps"] = sorted(self.steps)
        return {name: value for name, value in recorded.items() if value} | self.encoders()

    def encoders(self) -> dict[str, str]:
        """The encoders that were given instead of the model's own."""
        given = {"dino": self.dino, "clip": self.clip, "dinov2": self.dinov2}
        return {name: source for name, source in given.items() if source}


DEFAULT_SCORING = Scoring()


@dataclass(frozen=True)
class Plan:
    """What to compare.

    methods: name to (recipe, overrides); the name "untouched" stands for the base model as it is, prompted with the
    class noun. prompts: templates; each subject's own of the data set where None. images: of each prompt. count: how
    many of the data set's prompts, see `spread_prompts`; all where None. labels: what tables call methods, where it is
    not what `method_label` says.
    """

    subjects: tuple[str, ...]
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...] | None = None
    images: int = 1
    count: int | None = None
    dataset: Dataset = field(default_factory=bundled_dataset)
    scoring: Scoring = DEFAULT_SCORING
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The base model, which all methods share."""
        return self.settings(next(iter(self.methods))).model.name

    def subject(self, name: str) -> BenchmarkSubject:
        """A subject of the data set by its name."""
        return self.dataset.find(name)

    def prompts_of(self, subject: str) -> tuple[str, ...]:
        """The prompt templates of one subject."""
        if self.prompts:
            return self.prompts
        templates = self.subject(subject).prompts
        return templates if self.count is None else spread_prompts(templates, self.count, self.subject(subject).kinds)

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of every prompt."""
        known = {t: kind for subject in self.subjects for t, kind in self.subject(subject).kinds.items()}
        asked = (template for subject in self.subjects for template in self.prompts_of(subject))
        return {template: known.get(template) or prompt_kind(template) for template in asked}

    def cells(self) -> Iterator[CellKey]:
        """All cells; those of one subject come before those of the next."""
        return ((s, m, seed) for s in self.subjects for seed in self.seeds for m in self.methods)

    def settings(self, method: str, seed: int = 0) -> Settings:
        """The settings of a method, without its subject."""
        recipe, overrides = self.methods[method]
        return load_settings(recipe, {**overrides, "run.seed": seed})

    def image_seeds(self, subject: str, seed: int) -> list[int]:
        """One for each image: the same for every method, others for every training seed."""
        return [image_seed(seed, i) for i in range(len(self.prompts_of(subject)) * self.images)]

    def label(self, method: str) -> str:
        """What tables call a method."""
        return self.labels.get(method) or method_label(method)

    def settings_of(self, key: CellKey) -> dict[str, Any]:
        """What a finished cell must have been run with to count as this one."""
        subject, method, seed = key
        settings: dict[str, Any] = {
            "config": self.settings(method, seed).flat() | {"run.recipe": ""},
            "prompts": list(self.prompts_of(subject)),
            "images": self.images,
            **self.scoring.settings(),
        }
        one = self.subject(subject)
        if one.photos is not None:  # Toybox's subjects are known by their name
            settings |= {"class_noun": one.class_noun, "photos": photos_hash(one.photos)}
        return settings


def cell_name(key: CellKey) -> str:
    """The stem of a cell's files."""
    subject, method, seed = key
    return f"{subject}.{method}.{seed}"


def image_seed(seed: int, image: int) -> int:
    """The seed of a cell's image. seed: of the training. image: its index in the cell."""
    return 10_000 * (seed + 1) + image


def spread_prompts(templates: Sequence[str], count: int, known: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """`count` of the templates in their own order, chosen by taking the kinds of prompt in turn. known: their kinds."""
    kinds: dict[str, list[str]] = {}
    for template in templates:
        kinds.setdefault((known or {}).get(template) or prompt_kind(template), []).append(template)
    longest = max(map(len, kinds.values()))
    in_turn = [kind[i] for i in range(longest) for kind in kinds.values() if i < len(kind)]
    chosen = set(in_turn[:count])
    return tuple(template for template in templates if template in chosen)


def prompt_kind(template: str) -> Literal["scene", "accessory", "property"]:
    """What a template asks for: another scene, an accessory or clothes, or another property of the subject itself."""
    if template.rstrip(". ").endswith("{class_noun}"):
        return "property"
    return "accessory" if re.search(r"\bwearing\b|\boutfit\.?$", template) else "scene"


def method_label(method: str) -> str:
    """How people read a method: "look-forward@lora" is "Look Forward, LoRA"."""
    if method == UNTOUCHED:
        return "untouched model"
    recipe, _, adapter = method.partition("@")
    label = RECIPE_LABELS.get(recipe, recipe)
    labels = {spec.name: spec.label for spec in ADAPTERS}
    return f"{label}, {labels.get(adapter, adapter)}" if adapter else label
