"""A data set by the word that the user gave for it."""

import os
from pathlib import Path

from lookforward.benchmark.datasets.custom_concept import INDEX, read_custom_concept
from lookforward.benchmark.datasets.dreambooth import TABLE, read_dreambooth
from lookforward_toybox.dataset import PARTS, toybox_dataset
from lookforward.benchmark.datasets.values import Dataset
from lookforward.errors import LookforwardError


def find_dataset(given: str) -> Dataset:
    """`toybox` (its 20 test subjects), `toybox-development`, or a folder in one of two layouts.

    Raises:
        LookforwardError: there is no such data set, or its layout is broken.
    """
    if given in PARTS:
        return toybox_dataset(given)
    folder = Path(given)
    if not os.path.isdir(folder):  # os.path answers False where Path raises
        raise LookforwardError(f"There is no data set {given!r}: give {', '.join(PARTS)}, or a folder.")
    if os.path.isfile(folder / TABLE):
        return read_dreambooth(folder)
    if os.path.isfile(folder / "dataset" / TABLE):  # the data set's own repository
        return read_dreambooth(folder / "dataset")
    if os.path.isfile(folder / INDEX):
        return read_custom_concept(folder)
    raise LookforwardError(
        f"{folder} is no data set: it has neither {TABLE}, as the DreamBooth data set, nor {INDEX}, as"
        " CustomConcept101."
    )
