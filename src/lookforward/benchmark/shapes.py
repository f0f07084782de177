"""What `benchmark.json` and the records in a cell must look like: each value of its kind, and sizes that fit a page.

All of it may be missing, since files of older versions say less.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lookforward.files import read_json
from lookforward.records import structure

MOST_CELLS = 1_000_000  # that a folder may ask for
_MOST_IMAGES = 1_000_000  # of a cell

Count = Annotated[int, Field(ge=1, le=_MOST_IMAGES)]


@dataclass(frozen=True)
class Provenance:
    """Of a cell: what made it."""

    date: str | None = None
    seconds: float | None = None
    device: str | None = None
    gpu_memory: float | None = None
    model_hash: str | None = None
    photos_hash: str | None = None
    config_hash: str | None = None
    versions: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Recorded:
    """Of a cell: what it was run with."""

    config: dict[str, Any] | None = None
    prompts: list[str] = field(default_factory=list)
    images: Count = 1
    identifier_in_clip_text: bool | None = None
    extra_scores: list[str] = field(default_factory=list)
    dino: str | None = None
    clip: str | None = None
    dinov2: str | None = None

    def __post_init__(self) -> None:
        if len(self.prompts) * self.images > _MOST_IMAGES:
            raise ValueError(f"a cell of {len(self.prompts) * self.images:,} images is too large")


@dataclass(frozen=True)
class _Subject:
    name: str
    class_noun: str = ""
    kind: str = ""
    photos: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Method:
    name: str
    label: str | None = None
    recipe: str | None = None
    config_hash: str = ""
    optimised: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Grid:
    subjects: list[str]
    methods: list[str]
    seeds: list[int]


@dataclass(frozen=True)
class _Dataset:
    name: str | None = None
    kind: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Description:
    subjects: list[_Subject] = field(default_factory=list)
    methods: list[_Method] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    grids: list[_Grid] = field(default_factory=list)
    dataset: _Dataset = field(default_factory=_Dataset)
    model: str = ""
    prompts: int | None = None
    images: Count = 1
    prompt_kinds: dict[str, str] = field(default_factory=dict)
    identifier_in_clip_text: bool | None = None
    extra_scores: list[str] = field(default_factory=list)
    encoders: dict[str, str | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    date: str = ""

    def __post_init__(self) -> None:
        cells = sum(prod(map(len, (one.subjects, one.methods, one.seeds))) for one in self.grids)
        if max(cells, prod(map(len, (self.subjects, self.methods, self.seeds)))) > MOST_CELLS:
            raise ValueError(f"it asks for more than {MOST_CELLS:,} cells")


def read_described(path: Path) -> dict[str, Any]:
    """What `benchmark.json` says, each value of its kind.

    Raises:
        LookforwardError: it cannot be read, or has another shape; the message names the field.
    """
    described = read_json(path, dict[str, Any])
    structure(described, _Description, path)
    return described


def check_recorded(settings: Mapping[str, Any], provenance: Mapping[str, Any], where: Path) -> None:
    """Raise LookforwardError unless the records of a cell have the kinds of values that a report counts on."""
    structure(settings, Recorded, where, root="$.settings")
    structure(provenance, Provenance, where, root="$.provenance")
