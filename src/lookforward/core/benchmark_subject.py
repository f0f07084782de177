"""A subject that methods are compared on, from a data set on disk or from the bundled world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class BenchmarkSubject:
    """One subject.

    live: whether it is an animal, so that it wears outfits in the DreamBooth data set's prompts. prompts: templates
    for `fill`. photos: folder of its photos, which need not be usable; None where the world draws them. drawing: gives
    the subject alone, (size, size, 4) in [0, 1]; None where no world knows it. write_photos: draws the photos into a
    folder, if they are not on disk. edition: side of these in pixels, None where they are on disk.
    """

    name: str
    class_noun: str
    live: bool
    prompts: tuple[str, ...] = ()
    photos: Path | None = None
    drawing: Callable[[], np.ndarray] | None = None
    write_photos: Callable[[Path], object] | None = None
    edition: int | None = None

    @property
    def group(self) -> str:
        """What reports call the subjects of its kind."""
        return "live subjects" if self.live else "objects"

    @property
    def kind(self) -> Literal["live", "object"]:
        return "live" if self.live else "object"
