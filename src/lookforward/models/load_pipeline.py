"""Whole pipelines of diffusers: from a model's name, a folder or a hub id to the pipeline, on its device."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import ModelInfo, hf_hub_download
from transformers.utils import logging as transformers_logging

from lookforward.bundle import bundled_model
from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError, first_line, is_out_of_memory, out_of_memory
from lookforward.models.families import FAMILIES, family_of, find_family
from lookforward.models.low_precision import LowPrecision
from lookforward.models.weight_files import (
    check_vocabulary,
    explain_load_error,
    explain_missing,
    load_weights,
    local_folder,
    no_progress_bars,
)
from lookforward.records import parse_json, read_bytes
from lookforward.whole import SUMS, require_whole


def build_pipeline(model: str, device: str = "auto", low: LowPrecision | None = None, revision: str = "") -> Any:
    """The pipeline of a bundled model, a folder or a hub id, with its family's deterministic sampler.

    low: parts that are stored in less than single precision. revision: of a hub id; the main branch if empty.
    """
    pipeline = load_pipeline(_source(model), find_device(device), low, revision)
    family_of(pipeline).set_sampler(pipeline)
    return pipeline


def pipeline_folder(model: str, revision: str = "") -> Path:
    """The folder that holds a pipeline, fetched if need be.

    Raises:
        LookforwardError: as `load_pipeline`.
    """
    return local_folder(_source(model), _fetch_pipeline, revision)


def _source(model: str) -> str | Path:
    bundled = bundled_model(model)
    return bundled.pipeline if bundled else model


def find_device(device: str) -> str:
    """What "auto" means on this machine; any other name must be one that torch can use here."""
    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            if is_out_of_memory(error):  # other programs have all of it
                raise out_of_memory(f"as {device} was opened", error) from error
            reason = first_line(error)
            raise LookforwardError(
                f"device = {device!r} cannot be used here: {reason}. Give cpu, or auto.", code="device-unusable"
            ) from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_pipeline(source: str | Path, device: str = "cpu", low: LowPrecision | None = None, revision: str = "") -> Any:
    """The pipeline of a folder or a hub id, of any known family: no progress bar, weights in single precision but for
    the parts of `low`.

    Raises:
        LookforwardError: it is of no known family, a part is missing or unreadable, or the hub cannot be reached.
    """
    folder = local_folder(source, _fetch_pipeline, revision)
    if (folder / SUMS).is_file():
        require_whole(folder, "The model", "Copy or export it again.", expected=True)
    index = folder / "model_index.json"
    if not index.is_file():
        raise LookforwardError(
            f"{folder} has no model_index.json: it is not a pipeline folder. Give the folder that diffusers' "
            "save_pretrained wrote, such as RUN/export.",
            code="model-index-missing",
        )
    try:
        parts: dict[str, Any] = parse_json(read_bytes(index))
        family = find_family(parts["_class_name"])
        parts |= {name: _library_and_class(name, parts) for name in _named_by(family)}
    except (ValueError, KeyError, TypeError) as error:
        raise explain_load_error(folder, error) from error
    absent = {name for name in family.optional if not parts[name][0]}
    wanted = {family.denoiser, "vae", *family.text_encoders, *family.tokenizers, "scheduler"} - absent
    if missing := sorted(name for name in wanted if not (folder / name).is_dir()):
        denoisers = sorted({one.denoiser for one in FAMILIES})
        other = next((one for one in denoisers if one not in wanted and (folder / one).is_dir()), None)
        if family.denoiser in missing and other:
            raise LookforwardError(
                f"{index} names a {family.pipeline_class}, but the folder has a {other}: the file is of another model. "
                "Put this model's own model_index.json there.",
                code="model-index-wrong",
            )
        raise explain_load_error(folder, FileNotFoundError(f"it has no folder {' and no '.join(missing)}"))
    # Loaded one by one: diffusers would fill gaps in a text encoder with noise
    small = set(low.parts) - absent if low else set[str]()
    loaded: dict[str, Any] = (
        {name: low.load(parts[name][0], parts[name][1], folder / name) for name in sorted(small)} if low else {}
    )
    loaded |= {
        name: load_weights(_class_of(parts[name], folder / name), folder / name, **_variant(folder / name))
        for name in family.text_encoders
        if name not in absent | small
    }
    pipeline = _assemble(folder, family, parts, absent, loaded)
    for name in sorted(set(family.tokenizers) - absent):
        check_vocabulary(folder / name, getattr(pipeline, name))
    pipeline.set_progress_bar_config(disable=True)
    for module in (getattr(pipeline, family.denoiser), pipeline.vae, *loaded.values()):
        if missing := [name for name, weight in module.named_parameters() if weight.is_meta]:
            raise explain_missing(folder, module, missing)
        module.requires_grad_(False).eval()
    if problem := family.kind_problem(pipeline):
        raise LookforwardError(
            f"{folder} is not a text-to-image model like {family.label}: {problem}. Use a model of that family.",
            code="model-kind",
        )
    return pipeline.to(device)


def _variant(part: Path) -> dict[str, str]:
    """The arguments of `from_pretrained` for a part whose folder has weights in half precision only."""
    names = [path.name for suffix in ("safetensors", "bin") for path in part.glob(f"*.{suffix}")]
    halves = [name for name in names if ".fp16." in name]
    return {"variant": "fp16"} if halves and len(halves) == len(names) else {}


def _assemble(folder: Path, family: Family, parts: dict[str, Any], absent: set[str], loaded: dict[str, Any]) -> Any:
    """The pipeline of the loaded parts and of all else that the folder holds. parts: of model_index.json."""
    try:
        with no_progress_bars(diffusers_logging, transformers_logging):
            kind: Any = getattr(diffusers, family.pipeline_class)
            # Of a processor of texts and images, which would need torchvision, the tokenizer alone
            processors = [n for n in family.tokenizers if n not in absent and parts[n][1].endswith("Processor")]
            given = {
                **family.load_options,
                **dict.fromkeys([*absent, *processors]),
                **loaded,
                **_variant(folder / family.denoiser),
            }
            pipeline = kind.from_pretrained(str(folder), dtype=torch.float32, **given)
            for name in processors:
                pipeline.register_modules(**{name: transformers.AutoTokenizer.from_pretrained(str(folder / name))})
    except Exception as error:  # diffusers raises OSError, ValueError, AttributeError, safetensors' own …
        raise explain_load_error(folder, error) from error
    return pipeline


def _named_by(family: Family) -> set[str]:
    """The parts of which `model_index.json` must name the class."""
    return {family.denoiser, "vae", "scheduler", *family.text_encoders, *family.tokenizers, *family.optional}


def _library_and_class(name: str, parts: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Of a part; (None, None) where the pipeline has none. Raises ValueError where the index says something else."""
    found = parts.get(name) or [None, None]
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(one, str | None) for one in found):
        raise ValueError(f"model_index.json does not name the library and the class of {name}")
    return found[0], found[1]


def _class_of(part: tuple[str | None, str | None], folder: Path) -> Any:
    """The class of transformers that a part is of."""
    found = getattr(transformers, part[1] or "", None)
    if found is None:
        raise explain_load_error(folder, ValueError(f"transformers has no class {part[1]}"))
    return found


def _fetch_pipeline(name: str, found: ModelInfo | None, revision: str) -> Path:
    offline, pinned = found is None, revision or None
    index = Path(hf_hub_download(name, "model_index.json", revision=pinned, local_files_only=offline))
    find_family(json.loads(index.read_text(encoding="utf-8"))["_class_name"])  # before gigabytes are fetched
    # diffusers knows which of a repository's many weights a pipeline needs
    download: Any = diffusers.DiffusionPipeline.download
    return Path(download(name, revision=pinned, safety_checker=None, local_files_only=offline))


def forget_origin(folder: Path) -> None:
    """Take out of a saved pipeline's configs where its parts were loaded from: a path of this machine."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
