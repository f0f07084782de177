"""Pipelines on the meta device: every module with its shapes and no numbers, made of configs alone in a second."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from lookforward.core.types import Conditioning
from lookforward.models.families import family_of, find_family
from lookforward.models.weight_files import explain_load_error, no_progress_bars, require_own_configs
from lookforward.records import parse_json, read_bytes

SIZES = Path(__file__).parent / "sizes"


def meta_pipeline(folder: Path) -> Any:
    """The pipeline of a folder, with its tokenizers and scheduler; its modules are on the meta device.

    Raises:
        LookforwardError: it is of no known family, or a file is missing or damaged.
    """
    require_own_configs(folder)
    try:
        index: dict[str, Any] = _read_json(folder / "model_index.json")
        family = find_family(index["_class_name"])
        there = [name for name in (family.denoiser, "vae", *family.text_encoders) if (index.get(name) or [None])[0]]
        given: dict[str, Any] = dict.fromkeys(n for n in family.optional if not (index.get(n) or [None])[0])
        for name in there:
            library, kind = index[name]
            given[name] = meta_module(library, kind, _read_json(folder / name / "config.json"))
        pipeline_class: Any = getattr(diffusers, family.pipeline_class)
        with no_progress_bars(diffusers.utils.logging, transformers.utils.logging):
            return pipeline_class.from_pretrained(str(folder), **{**family.load_options, **given})
    except Exception as error:  # diffusers and transformers raise anything for values that they do not expect
        raise explain_load_error(folder, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    found = parse_json(read_bytes(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no table")
    return found


def known_pipeline(size: Mapping[str, Any]) -> Any:
    """The same for one of SIZES, which has no tokenizers."""
    kind: Any = getattr(diffusers, size["pipeline"])
    name, config = size["scheduler"]
    given = {part: meta_module(*one) for part, one in size["modules"].items()}
    given |= {"scheduler": getattr(diffusers, name)(**config)}
    taken = inspect.signature(kind.__init__).parameters
    needed = [name for name, one in taken.items() if one.default is one.empty and name != "self"]
    options = {name: value for name, value in find_family(size["pipeline"]).load_options.items() if name in taken}
    return kind(**{**dict.fromkeys(needed), **options, **given})


def meta_module(library: str, name: str, config: Mapping[str, Any], device: str = "meta") -> Any:
    """A frozen module of diffusers or transformers from its config; on another device than meta, of random weights."""
    with torch.device(device):
        if library == "diffusers":
            module = getattr(diffusers, name).from_config(dict(config))
        else:
            kind: Any = getattr(transformers, name)
            module = kind(kind.config_class.from_dict(dict(config)))
    return (module.float() if device == "meta" else module).requires_grad_(False).eval()


def known_sizes() -> dict[str, dict[str, Any]]:
    """Published models by the names of their files: label, source, pipeline, modules (library, class, config),
    scheduler, resolution, and prompt, the shapes of one encoded prompt.
    """
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(SIZES.glob("*.json"))}


def known_prompt(size: Mapping[str, Any]) -> Conditioning:
    """One encoded prompt of a known size: tokens, pooled and extra on the meta device, a full mask on the CPU."""
    shapes = size["prompt"]
    with torch.device("meta"):
        tokens = torch.empty(1, *shapes["tokens"])
        pooled = torch.empty(1, *shapes["pooled"]) if "pooled" in shapes else None
        extra = {name: torch.empty(1, *shape) for name, shape in shapes.get("extra", {}).items()}
    mask = torch.ones(1, shapes["tokens"][0], dtype=torch.bool) if shapes.get("mask") else None
    return Conditioning(tokens, mask, pooled, extra)


def meta_prompt(pipeline: Any, prompt: str) -> Conditioning | None:
    """The prompt as it is encoded, without its numbers: by the modules on the meta device, or as the family's known
    models encode theirs, where how long it gets depends on numbers. None where neither is known.
    """
    family = family_of(pipeline)
    try:
        with torch.no_grad():
            return family.encode_prompts(pipeline, [prompt])
    except Exception:  # whichever error the library has for a tensor without numbers
        for size in known_sizes().values():
            if size["pipeline"] == family.pipeline_class:
                return known_prompt(size)
    return None


def meta_latents(pipeline: Any, resolution: int, count: int) -> torch.Size:
    """(count, c, h, w) of images of a resolution."""
    with torch.device("meta"):
        photo = torch.empty(1, 3, resolution, resolution)
        found = family_of(pipeline).encode_images(pipeline.vae, photo).mean.shape
    return torch.Size((count, *found[1:]))
