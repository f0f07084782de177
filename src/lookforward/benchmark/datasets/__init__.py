"""The data sets that a benchmark can be run on."""

from lookforward.benchmark.datasets.custom_concept import read_custom_concept
from lookforward.benchmark.datasets.dreambooth import read_dreambooth
from lookforward.benchmark.datasets.find import bundled_dataset, find_dataset
from lookforward.benchmark.datasets.values import (
    BenchmarkSubject,
    Dataset,
    photos_hash,
    provide_photos,
    reference_images,
)

__all__ = [
    "BenchmarkSubject",
    "Dataset",
    "bundled_dataset",
    "find_dataset",
    "photos_hash",
    "provide_photos",
    "read_custom_concept",
    "read_dreambooth",
    "reference_images",
]
