"""An export to the layouts that other programs read."""

import shutil
from pathlib import Path

from lookforward.adapters import ADAPTERS
from lookforward.adapters.specs import WORDS_BESIDE
from lookforward.adapters.textual_inversion import file_name, write_single_words
from lookforward.core.specs import find_spec
from lookforward.errors import LookforwardError
from lookforward.exports.card import SAMPLES, Card
from lookforward.exports.merge import merge, merged_pipeline, require_no_photos
from lookforward.exports.source import Source
from lookforward.exports.write import require_finite_weights, require_new
from lookforward.models.families import FAMILIES
from lookforward.models.families.single_file import LOADING, assumptions, holds_words, require_layout, write_checkpoint
from lookforward.whole import whole_folder

_REMEDY = "The export is intact: make room, or give another --output."


def convert(source: Source, layout: str, folder: Path, strength: float | None = None) -> tuple[str, ...]:
    """Write a finished export into the new folder `folder` in another layout; returns notes.

    layout: "diffusers", as the run wrote it; "merged", a pipeline folder with the adapter baked in, at `strength`, 1 if
    None; "checkpoint", the same as one file in the layout of the model's original code; or one of the formats of the
    adapter's spec.

    Raises:
        LookforwardError: the adapter or the model's family has no such layout, or `folder` is taken or cannot be
            written.
    """
    export = source.require_export()
    spec = find_spec(ADAPTERS, source.manifest["adapter"], "adapter")
    if layout not in spec.format_names:
        known = ", ".join(spec.format_names)
        message = f"The adapter {spec.name!r} has no format {layout!r}: it has {known}."
        raise LookforwardError(message, code="format-unknown")
    if strength is not None and layout not in ("merged", "checkpoint"):
        raise LookforwardError(
            f"--strength is only for --format merged and checkpoint. With {layout!r}, set it when you load the file.",
            code="format-strength",
        )
    if layout != "diffusers":
        require_no_photos(source)
    require_new(folder)
    if layout == "merged":
        return merge([(source, 1.0 if strength is None else strength)], folder)
    if layout == "checkpoint":
        return _write_checkpoint(source, export, folder, 1.0 if strength is None else strength)
    with whole_folder(folder, _REMEDY) as partial:
        if layout == "diffusers":
            shutil.copytree(export, partial, dirs_exist_ok=True)
            return ()
        chosen, name = find_spec(spec.formats, layout, "format"), file_name(source.name)
        family = find_spec(FAMILIES, source.manifest.get("family", FAMILIES[0].name), "family")
        chosen.write(export, partial, name, source.subject, family)
        settings = source.run.settings if source.run else None
        loading = chosen.loading.format(name=name)
        word = file_name(source.manifest["identifier"]) if chosen.named_by_file else ""
        if word and source.manifest["noun_in_prompt"]:
            word += f" {source.manifest['class_noun']}"
        Card(source.manifest, settings, samples=export / SAMPLES, loading=loading, word=word).write(partial)
        require_finite_weights(partial)
    return ()


def _write_checkpoint(source: Source, export: Path, folder: Path, strength: float) -> tuple[str, ...]:
    """The whole model as one file, and each learned word as one."""
    spec = find_spec(ADAPTERS, source.manifest["adapter"], "adapter")
    require_layout(find_spec(FAMILIES, source.manifest.get("family", FAMILIES[0].name), "family"))
    pipeline, name = merged_pipeline([(source, strength)]), file_name(source.name)
    if not spec.learns_word and holds_words(pipeline):
        raise LookforwardError(
            f"{source.given} holds a learned word, for which one file of a whole model has no place: export the run "
            "that learned it.",
            code="format-model",
        )
    notes = assumptions(pipeline)
    loading = LOADING.format(name=name, pipeline=type(pipeline).__name__)
    with whole_folder(folder, _REMEDY) as partial:
        write_checkpoint(pipeline, partial / f"{name}.safetensors", source.subject)
        if spec.learns_word:
            write_single_words(export, partial)
            loading += WORDS_BESIDE
        loading += "".join(f"\n\nNote: {note}." for note in notes)
        settings = source.run.settings if source.run else None
        Card(source.manifest, settings, samples=export / SAMPLES, loading=loading).write(partial)
        require_finite_weights(partial)
    return notes
