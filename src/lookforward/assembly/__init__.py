"""Config to objects: the only place that knows both."""

from lookforward.assembly.components import RunComponents, build, check
from lookforward.assembly.evaluators import Evaluators, build_evaluators, build_scores, check_extra_scores
from lookforward.exports.convert import convert
from lookforward.exports.load import load_export, manifest_of, model_hash, read_manifest
from lookforward.exports.merge import merge
from lookforward.exports.source import Source, add_adapters, device_of, find_adapter, find_source
from lookforward.models.pipeline import build_pipeline, find_device

__all__ = [
    "Evaluators",
    "RunComponents",
    "Source",
    "add_adapters",
    "build",
    "build_evaluators",
    "build_pipeline",
    "build_scores",
    "check",
    "check_extra_scores",
    "convert",
    "device_of",
    "find_adapter",
    "find_device",
    "find_source",
    "load_export",
    "manifest_of",
    "merge",
    "model_hash",
    "read_manifest",
]
