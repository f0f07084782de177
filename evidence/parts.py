"""The parts of the evidence: each TOML file of this folder is one, with the grids that it runs."""

import shlex
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked

HERE = Path(__file__).parent
RUNS = Path("runs/evidence")


@checked(config=ConfigDict(extra="forbid", frozen=True))
class Grid:
    """One call of `lookforward benchmark`. recipes: names, or files of this folder. settings: by dotted names."""

    recipes: tuple[str, ...]
    model: str = "toybox"
    dataset: str = "toybox"
    adapters: tuple[str, ...] = ("full",)
    subjects: tuple[str, ...] = ()
    seeds: int = 1
    images: int = 2
    scored_steps: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def words(self, output: Path) -> list[str]:
        """The command, without the program's name."""
        recipes = [str(HERE / one) if one.endswith(".toml") else one for one in self.recipes]
        words = ["benchmark", "--model", self.model, "--dataset", self.dataset, "--recipes", ",".join(recipes)]
        words += ["--adapters", ",".join(self.adapters), "--seeds", str(self.seeds), "--images", str(self.images)]
        words += ["--subjects", ",".join(self.subjects)] if self.subjects else []
        words += ["--scored-steps", *map(str, self.scored_steps)] if self.scored_steps else []
        words += [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        return [*words, "--output", str(output)]


@dataclass(frozen=True)
class Part:
    """What it shows, and its grids, which share one folder. folder: its name; parts of one report share it."""

    name: str
    about: str
    grids: tuple[Grid, ...]
    folder: str

    @property
    def output(self) -> Path:
        return RUNS / self.folder

    @property
    def packed(self) -> Path:
        """Its cells as one file of the repository: scores and curves, without images."""
        return HERE / "cells" / f"{self.folder}.tar.xz"

    def commands(self) -> list[str]:
        return [f"lookforward {shlex.join(grid.words(self.output))}" for grid in self.grids]


def read_part(name: str, folder: Path = HERE) -> Part:
    """The part of that name.

    Exits where there is none, or where its file has something that a grid does not know.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        sys.exit(f"There is no part {name!r}: give one of {', '.join(part_names(folder))}.")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    grids = TypeAdapter(tuple[Grid, ...]).validate_python(tuple(table["grid"]))
    return Part(name, table["about"], grids, table.get("folder", name))


def part_names(folder: Path = HERE) -> list[str]:
    """The files of this folder that hold grids; the others are recipes."""
    return sorted(path.stem for path in folder.glob("*.toml") if "\n[[grid]]" in path.read_text(encoding="utf-8"))
