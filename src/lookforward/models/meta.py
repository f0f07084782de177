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
from lookforward.models.families import FAMILIES, family_of, find_family
from lookforward.models.pretrained import no_progress_bars

SIZES = Path(__file__).parent / "sizes"


def meta_pipeline(folder: Path) -> Any:
    """The pipeline of a folder, with its tokenizers and scheduler; its modules are on the meta device."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    family = find_family(index["_class_name"])
    modules = {
        name: meta_module(*index[name], json.loads((folder / name / "config.json").read_text(encoding="utf-8")))
        for name in (family.denoiser, "vae", *family.text_encoders)
        if (index.get(name) or [None])[0]
    }
    absent = [name for name in family.optional if not (index.get(name) or [None])[0]]
    kind: Any = getattr(diffusers, family.pipeline_class)
    with no_progress_bars(diffusers.utils.logging, transformers.utils.logging):
        return kind.from_pretrained(str(folder), **{**family.load_options, **dict.fromkeys(absent), **modules})


def known_pipeline(size: Mapping[str, Any]) -> Any:
    """The same for one of SIZES, which has no tokenizers."""
    kind: Any = getattr(diffusers, size["pipeline"])
    family = find_family(size["pipeline"])
    given = {name: meta_module(*part) for name, part in size["modules"].items()}
    scheduler = size["scheduler"]
    given["scheduler"] = getattr(diffusers, scheduler[0])(**scheduler[1])
    taken = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "args", "kwargs")]
    required = {
        name: None
        for name in taken
        if inspect.signature(kind.__init__).parameters[name].default is inspect.Parameter.empty
    }
    return kind(**{**required, **{k: v for k, v in family.load_options.items() if k in taken}, **given})


def meta_module(library: str, name: str, config: Mapping[str, Any]) -> Any:
    """A frozen module of diffusers or transformers from its config."""
    with torch.device("meta"):
        if library == "diffusers":
            module = getattr(diffusers, name).from_config(dict(config))
        else:
            kind: Any = getattr(transformers, name)
            module = kind(kind.config_class.from_dict(dict(config)))
    return module.float().requires_grad_(False).eval()


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


def meta_prompt(pipeline: Any, prompt: str) -> Conditioning:
    """The prompt as it is encoded, without its numbers: by the modules on the meta device, or as the family's known
    models encode theirs, where how long it gets depends on numbers.

    Raises:
        ValueError: neither is known.
    """
    family = family_of(pipeline)
    try:
        with torch.no_grad():
            return family.encode_prompts(pipeline, [prompt])
    except Exception:  # whichever error the library has for a tensor without numbers
        for size in known_sizes().values():
            if size["pipeline"] == family.pipeline_class:
                return known_prompt(size)
    raise ValueError(f"nothing is known of how {family.label} encodes a prompt")


def meta_latents(pipeline: Any, resolution: int, count: int) -> torch.Size:
    """(count, c, h, w) of images of a resolution."""
    with torch.device("meta"):
        photo = torch.empty(1, 3, resolution, resolution)
        found = family_of(pipeline).encode_images(pipeline.vae, photo).mean.shape
    return torch.Size((count, *found[1:]))


__all__ = ["FAMILIES", "known_pipeline", "known_prompt", "known_sizes", "meta_latents", "meta_pipeline", "meta_prompt"]
