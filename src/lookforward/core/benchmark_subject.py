"""A subject that methods are compared on, from a data set on disk or from the bundled world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class BenchmarkSubject:
    """One subject.

    live: whether it is an animal, so that it wears outfits in the DreamBooth data set's prompts. prompts: templates
    for `fill`. photos: folder of its photos, or its only photo, which need not be usable; None where the world draws
    them. drawing: gives the subject alone, (size, size, 4) in [0, 1]; None where no world knows it. write_photos: draws
    the photos into a folder, if they are not on disk. kinds: of those prompts whose kind the data set says. style: it
    is a way to depict things, and no thing. edition: side in pixels of the photos that the world draws.
    """

    name: str
    class_noun: str
    live: bool
    prompts: tuple[str, ...] = ()
    photos: Path | None = None
    drawing: Callable[[], np.ndarray] | None = None
    write_photos: Callable[[Path], object] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    style: bool = False
    edition: int | None = None

    @property
    def group(self) -> str:
        """What reports call the subjects of its kind."""
        return "styles" if self.style else "live subjects" if self.live else "objects"

    @property
    def kind(self) -> Literal["live", "object", "style"]:
        return "style" if self.style else "live" if self.live else "object"
