"""Bake adapters into a model: the result is a pipeline folder that needs nothing beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from lookforward.adapters import ADAPTERS
from lookforward.adapters.full import save_pipeline
from lookforward.adapters.specs import FULL
from lookforward.core.specs import find_spec
from lookforward.errors import LookforwardError
from lookforward.exports.card import Card
from lookforward.exports.load import build_base, check_strength, is_shown_photos
from lookforward.exports.source import Source, notes_on
from lookforward.exports.write import require_finite_weights, require_new, write_manifest
from lookforward.models.policy import DiffusionPolicy
from lookforward.whole import whole_folder


def merge(sources: Sequence[tuple[Source, float]], folder: Path, device: str = "auto") -> tuple[str, ...]:
    """Bake exports, each at its strength, into the model that the first is or was trained on; returns notes.

    A whole model at a strength is interpolated between its base model (0) and itself (1).

    Raises:
        LookforwardError: one cannot be baked in or does not fit, a strength is not in [-10, 10], or `folder` is taken
            or cannot be written.
    """
    for source, weight in sources:  # before the folder is looked at
        check_strength(weight, source.given)
    require_new(folder)
    first = sources[0][0]
    pipeline = merged_pipeline(sources, device)
    named = next((source for source, _ in sources if source.folder), first)
    manifest = {**named.manifest, "adapter": FULL.name, "merged": [s.describe(w) for s, w in sources if s.folder]}
    if agreed := [one for source, _ in sources for one in source.manifest.get("consent", [])]:
        manifest["consent"] = [one for i, one in enumerate(agreed) if one not in agreed[:i]]
    merged = [f"{a['name']} ({a['adapter']}), at strength {a['strength']:g}" for a in manifest["merged"]]
    settings = named.run.settings if named.run and len(sources) == 1 else None
    with whole_folder(folder, "Make room, or give another --output.") as partial:
        save_pipeline(DiffusionPolicy(pipeline), partial)
        Card(manifest, settings, merged=merged).write(partial)
        write_manifest(partial, manifest)
        require_finite_weights(partial)
    return notes_on(first, sources[1:] if first.manifest["adapter"] == FULL.name else sources)


def merged_pipeline(sources: Sequence[tuple[Source, float]], device: str = "auto") -> Any:
    """The pipeline that `merge` writes.

    Raises:
        LookforwardError: as `merge`, but for the folder.
    """
    for source, weight in sources:
        check_strength(weight, source.given)
        _require_mergeable(source, source is sources[0][0])
    (first, strength), *others = sources
    if first.manifest["adapter"] == FULL.name:
        pipeline = first.load(device)
        if strength != 1:
            interpolate(build_base(first.manifest, device), pipeline, strength)
    else:
        pipeline, others = build_base(first.manifest, device), list(sources)
    for source, weight in others:
        bake(pipeline, source, weight)
    return pipeline


def bake(pipeline: DiffusionPipeline, source: Source, strength: float) -> None:
    """Change the pipeline's own weights, and its vocabulary where a word was learned, as the adapter would.

    Raises:
        LookforwardError: the adapter does not fit the pipeline.
    """
    merge_into = find_spec(ADAPTERS, source.manifest["adapter"], "adapter").merge
    assert merge_into is not None
    merge_into(pipeline, source.require_export(), strength)


@torch.no_grad()
def interpolate(base: DiffusionPipeline, trained: DiffusionPipeline, strength: float) -> None:
    """Bring the weights of `trained` to base + strength·(trained − base), in place.

    Rows that `trained` has beyond those of `base`, of learned words, stay as they are.

    Raises:
        LookforwardError: the two are not of one shape.
    """
    before_all, after_all = (DiffusionPolicy(pipeline).components for pipeline in (base, trained))
    if before_all.keys() != after_all.keys():
        raise _other_shape("model")
    for part, module in after_all.items():
        before, after = dict(before_all[part].named_parameters()), dict(module.named_parameters())
        if before.keys() != after.keys():
            raise _other_shape(part)
        for name, weight in after.items():
            old = before[name].to(weight.device)
            if old.shape[1:] != weight.shape[1:] or len(old) > len(weight):
                raise _other_shape(part)
            weight[: len(old)] = torch.lerp(old, weight[: len(old)], strength)


def require_no_photos(source: Source) -> None:
    """Raise LookforwardError for an export that a photo prompt belongs to, which other layouts cannot hold."""
    if source.folder is not None and is_shown_photos(source.folder, source.manifest):
        raise LookforwardError(
            f"{source.given} was trained from a photo encoder, whose details only its own layout holds. Use it with "
            "`lookforward generate`, or export it as diffusers.",
            code="adapter-unmergeable",
        )


def _require_mergeable(source: Source, is_first: bool) -> None:
    spec = find_spec(ADAPTERS, source.manifest["adapter"], "adapter")
    require_no_photos(source)
    if spec.unmergeable:
        raise LookforwardError(
            f"{source.given} holds an adapter {spec.name!r}, which a pipeline folder cannot hold, because "
            f"{spec.unmergeable}. Use it with `lookforward generate`.",
            code="adapter-unmergeable",
        )
    if spec.is_whole_model and not is_first:
        raise LookforwardError(
            f"{source.given} is a full model, and two of them cannot be combined: give it first, adapters after it.",
            code="model-second",
        )


def _other_shape(part: str) -> LookforwardError:
    return LookforwardError(
        f"The {part} and that of its base model differ in shape, so they cannot be interpolated: leave out the "
        "strength.",
        code="model-shape",
    )
