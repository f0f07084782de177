"""What an export is, in a few words beside it, and an export to a pipeline that draws with it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from lookforward.adapters import ADAPTERS
from lookforward.adapters.photo_specs import ELITE
from lookforward.adapters.specs import late
from lookforward.bundle import BUNDLED, present_name
from lookforward.config.reading import check_value
from lookforward.config.settings import Settings
from lookforward.core.specs import find_spec
from lookforward.errors import LookforwardError
from lookforward.files import read_json, structure, write_json
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import fingerprint
from lookforward.runs.base_model import MODEL
from lookforward.runs.consent import Consent
from lookforward.runs.folder import MANIFEST
from lookforward.whole import require_whole

# Key of the manifest to setting
_KEYS = {
    "adapter": "adapter.name",
    "model": "model.name",
    "identifier": "subject.identifier",
    "class_noun": "subject.class_noun",
    "noun_in_prompt": "subject.noun_in_prompt",
    "others": "subject.others",
    "resolution": "data.resolution",
    "sample_steps": "evaluation.sampler_steps",
    "guidance": "evaluation.guidance",
}
PHOTO_PROMPT = "photo_prompt.safetensors"  # in an export
IP_PHOTOS = "ip_adapter_photos.safetensors"
MOST_STRENGTH = 10  # of an adapter, 1 as it was trained
_NEEDED = ("format", *(name for name in _KEYS if name != "others"))  # that came later


@dataclass(frozen=True)
class _Further:
    """What a manifest may have beside the settings of _KEYS."""

    model_is_folder: bool = False
    vectors: int = 1
    model_hash: str = ""
    model_commit: str = ""
    family: str = ""
    step: int | None = None
    consent: list[Consent] = field(default_factory=list)
    merged: list[dict[str, Any]] = field(default_factory=list)


def manifest_of(settings: Settings, model_hash: str = "", model_commit: str = "") -> dict[str, Any]:
    """What `load_export` must know of a run's export. model_hash: of the untouched model; model_commit: of a model on
    the hub; both empty where unknown.
    """
    is_folder = settings.model.name not in BUNDLED and os.path.isdir(settings.model.name)
    later: dict[str, Any] = {"model_is_folder": True} if is_folder else {}
    digest = {"model_hash": model_hash} if model_hash else {}
    digest |= {"model_commit": model_commit} if model_commit else {}
    values = settings.flat()
    if values["adapter.vectors"] > 1:  # a pipeline that does not write its word out is given all its tokens
        later["vectors"] = values["adapter.vectors"]
    return {"format": 1, **{key: values[name] for key, name in _KEYS.items()}, **later, **digest}


def write_model(folder: Path, settings: Settings, model_hash: str, model_commit: str) -> None:
    """Record in a run's folder which base model it has: RUN/model.json. Raises LookforwardError if that fails."""
    chosen = {"name": settings.model.name, "revision": settings.model.revision}
    write_json(folder / MODEL, chosen | {"commit": model_commit, "hash": model_hash})


def model_hash(pipeline: DiffusionPipeline) -> str:
    """`fingerprint`, as short as other programs write it."""
    return fingerprint(pipeline)[:10]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export. A bundled model has the name in it that it goes by now.

    Raises:
        LookforwardError: the folder is no export, or a file of it is damaged.
    """
    try:
        manifest = read_json(folder / MANIFEST, dict[str, Any])
        check_manifest(folder, manifest)
    except LookforwardError as error:
        if error.code.startswith("export-"):
            raise
        raise LookforwardError(f"{folder} is not an export: {error} Give RUN/export.", "export-unreadable") from error
    remedy = "Copy it again, or export the run again: delete RUN/export and run its training command."
    require_whole(folder, "The export", remedy, expected="digests" in manifest)
    return manifest | {"model": present_name(manifest["model"], manifest.get("model_hash", ""))}


def check_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise LookforwardError unless what an export says of itself is of this version, and each value of its kind."""
    if missing := [name for name in _NEEDED if name not in manifest]:
        message = f"{folder} is not an export: its {MANIFEST} has no {missing[0]}. Give RUN/export."
        raise LookforwardError(message, code="export-unreadable")
    if manifest["format"] != 1 or manifest["adapter"] not in [spec.name for spec in ADAPTERS]:
        raise LookforwardError(
            f"{folder} holds an adapter {manifest['adapter']!r} in format {manifest['format']!r}, which this version "
            "of lookforward does not know: use the version that wrote it.",
            code="export-version",
        )
    for name, setting in _KEYS.items():
        value = manifest.get(name, "")  # `others` came later
        if value is not None or name != "resolution":  # a plain model has none of its own
            check_value(setting, value, f"{folder / MANIFEST}, {name}")
    structure(manifest, _Further, folder / MANIFEST)


def check_strength(strength: float, what: str = "") -> None:
    """Raise LookforwardError unless an adapter can be used at this strength; what: how the message begins."""
    if not -MOST_STRENGTH <= strength <= MOST_STRENGTH:  # nan too
        raise LookforwardError(
            f"{f'{what}: ' if what else ''}strength = {strength:g} must be in [-{MOST_STRENGTH}, {MOST_STRENGTH}].",
            code="strength-range",
        )


def load_export(folder: Path, device: str = "auto", strength: float = 1.0) -> DiffusionPipeline:
    """The pipeline of an export: the pipeline folder itself, or its base model with the adapter put in.

    strength: of an adapter; a full export has none.

    Raises:
        LookforwardError: the folder is no export, its base model cannot be loaded, or the strength is not in [-10, 10].
    """
    check_strength(strength)
    manifest = read_manifest(folder)
    if find_spec(ADAPTERS, manifest["adapter"], "adapter").is_whole_model:
        whole = build_pipeline(str(folder), device)
        _show_photos(whole, folder, manifest)
        return whole
    pipeline = build_base(manifest, device)
    apply_export(pipeline, folder, strength)
    return pipeline


def build_base(manifest: dict[str, Any], device: str = "auto") -> DiffusionPipeline:
    """The pipeline of the model that an export was trained on.

    Raises:
        LookforwardError: it cannot be loaded; a folder is not there, which is not looked for on a hub then; or its
            weights are others by now, with which an adapter draws something else.
    """
    model = manifest["model"]
    if manifest.get("model_is_folder") and not os.path.isdir(model):
        raise LookforwardError(
            f"This was trained on the folder {model}, which does not exist from here. Change to the folder "
            "that contains it, or use lookforward generate FOLDER PROMPT --adapter EXPORT.",
            code="model-missing",
        )
    pipeline = build_pipeline(model, device, revision=manifest.get("model_commit", ""))
    known = manifest.get("model_hash")
    if known and known != model_hash(pipeline):
        raise LookforwardError(
            f"The weights of {model} have changed since this was trained on it, so its images would differ. Train it "
            f"again, or use the current weights anyway: lookforward generate {model} PROMPT --adapter EXPORT.",
            code="model-changed",
        )
    return pipeline


def apply_export(pipeline: DiffusionPipeline, folder: Path, strength: float = 1.0) -> None:
    """Put the adapter of an export into a pipeline, beside those that it holds already.

    Raises:
        LookforwardError: the folder is no export, or the export of a whole model, or does not fit the pipeline; or the
            strength is not in [-10, 10].
    """
    check_strength(strength)
    manifest = read_manifest(folder)
    load = find_spec(ADAPTERS, manifest["adapter"], "adapter").load
    if load is None:
        raise LookforwardError(
            f"{folder} holds a full model, which cannot be loaded into another: give it first, adapters after it.",
            code="model-second",
        )
    load(pipeline, folder, strength)
    _show_photos(pipeline, folder, manifest)


def is_shown_photos(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether an export has a photo prompt beside its adapter, from the encoder that its training started from."""
    return (folder / IP_PHOTOS).is_file() or (manifest["adapter"] != ELITE.name and (folder / PHOTO_PROMPT).is_file())


def _show_photos(pipeline: DiffusionPipeline, folder: Path, manifest: Mapping[str, Any]) -> None:
    if (folder / IP_PHOTOS).is_file():
        late("ip_adapter", "load_shown")(pipeline, folder)
    elif is_shown_photos(folder, manifest) and ELITE.load is not None:
        ELITE.load(pipeline, folder, 1.0)
