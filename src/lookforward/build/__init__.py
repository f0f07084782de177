"""Config to objects: the only place that knows both."""

from lookforward.build.export import load_export, manifest_of, read_manifest
from lookforward.build.judges import Judges, build_judges, build_scores
from lookforward.build.pipeline import build_pipeline, find_device
from lookforward.build.run import Workshop, build, check

__all__ = [
    "Judges",
    "Workshop",
    "build",
    "build_judges",
    "build_pipeline",
    "build_scores",
    "check",
    "find_device",
    "load_export",
    "manifest_of",
    "read_manifest",
]
