"""The data sets that a benchmark can be run on."""

from lookforward.benchmark.datasets.custom_concept import read_custom_concept
from lookforward.benchmark.datasets.dreambooth import read_dreambooth
from lookforward.benchmark.datasets.find import find_dataset
from lookforward_toybox.dataset import provide_photos, toybox_dataset
from lookforward.benchmark.datasets.values import BenchmarkSubject, Dataset, photos_hash

__all__ = [
    "BenchmarkSubject",
    "Dataset",
    "find_dataset",
    "photos_hash",
    "provide_photos",
    "read_custom_concept",
    "read_dreambooth",
    "toybox_dataset",
]
