"""A data set by the word that the user gave for it."""

import os
from pathlib import Path

from lookforward.benchmark.datasets.custom_concept import INDEX, read_custom_concept
from lookforward.benchmark.datasets.dreambench_plus import PARTS, read_dreambench_plus
from lookforward.benchmark.datasets.dreambooth import TABLE, read_dreambooth
from lookforward.benchmark.datasets.values import Dataset
from lookforward.bundle import FIRST_EDITION, TOYBOX, find_bundle, require_bundle
from lookforward.errors import LookforwardError


def find_dataset(given: str, model: str = TOYBOX) -> Dataset:
    """`toybox` (its 20 test subjects), `toybox-development`, or a folder in one of three layouts.

    model: that the world is drawn for, see `bundled_dataset`.

    Raises:
        LookforwardError: there is no such data set, or its layout is broken.
    """
    bundle = find_bundle()
    names = (TOYBOX,) if bundle is None else tuple(bundle.DATASETS)
    if given in names:
        return bundled_dataset(given, model)
    folder = Path(given)
    if not os.path.isdir(folder):  # os.path answers False where Path raises
        text = f"There is no data set {given!r}: give {', '.join(names)}, or a folder."
        raise LookforwardError(text, code="dataset-unknown")
    if os.path.isfile(folder / TABLE):
        return read_dreambooth(folder)
    if os.path.isfile(folder / "dataset" / TABLE):  # the data set's own repository
        return read_dreambooth(folder / "dataset")
    if os.path.isfile(folder / INDEX):
        return read_custom_concept(folder)
    for place in (folder, folder / "data"):  # as the archive of DreamBench++ unpacks
        if all(os.path.isdir(place / part) for part in PARTS):
            return read_dreambench_plus(place)
    raise LookforwardError(
        f"{folder} is no data set: it has neither {TABLE}, as the DreamBooth data set, nor {INDEX}, as"
        f" CustomConcept101, nor the folders {' and '.join(PARTS)}, as DreamBench++.",
        code="dataset-unknown",
    )


def bundled_dataset(name: str = "toybox-all", model: str = TOYBOX) -> Dataset:
    """Subjects of the bundled world: `toybox`, `toybox-development`, or all of them.

    model: whose edition of the world is drawn; the default model's if it is not bundled. A data set of another edition
    than the first has another name, so that one benchmark does not mix them.

    Raises:
        LookforwardError: the bundle is not installed.
    """
    subjects = require_bundle().subjects(name, model)
    side = subjects[0].edition
    return Dataset(name if side == FIRST_EDITION else f"{name} at {side} pixels", TOYBOX, subjects)
