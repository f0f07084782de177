"""`lookforward generate --photos`: a subject from its photos, without training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.config.recipe import NEW_WORD, is_ip_adapter
from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    from lookforward.exports.source import Source


@dataclass(frozen=True)
class ShownPhotos:
    """Photos to draw a subject from. manifest: what prompts call it. record: for the images' metadata."""

    photos: Any
    encoder: str | Path
    manifest: dict[str, Any]
    record: dict[str, Any]
    notes: tuple[str, ...]

    def show(self, pipeline: Any) -> None:
        """Put the subject into a pipeline. Raises LookforwardError where the encoder is of another model."""
        from lookforward.assembly.start import show_photos

        noun = self.manifest["class_noun"]
        show_photos(pipeline, self.encoder, self.photos, NEW_WORD, noun or "photo")


def base_of(
    run: str, prompt: str | None, prompts: Path | None, photos: Path | None, encoder: str
) -> tuple[str, str | None]:
    """The model to draw with, and the prompt: with photos the model may be left out, and is the encoder's.

    Raises:
        LookforwardError: no model is given, or no encoder for the photos.
    """
    from lookforward.models.photo_encoder import load_encoder

    if photos is None:
        if encoder:
            raise LookforwardError("--encoder needs --photos, a folder of photos of the subject.", code="photos-none")
        if not run:
            message = "Give a RUN: a run folder, an export, a pipeline folder or a hub ID."
            raise LookforwardError(message, code="prompt-missing")
        return run, prompt
    if not encoder:
        raise LookforwardError(
            "--photos needs --encoder, a photo encoder: train one with `lookforward pretrain-encoder`.",
            code="encoder-missing",
        )
    if is_ip_adapter(encoder):
        if not run or (prompt is None and prompts is None):
            message = "IP-Adapter weights name no model: give one, such as generate MODEL PROMPT --photos FOLDER."
            raise LookforwardError(message, code="prompt-missing")
        return run, prompt
    alone = run and prompt is None and prompts is None  # the one word is the prompt
    if alone or not run:
        return load_encoder(encoder).sizes.model, run or None
    return run, prompt


def read_photos(photos: Path, encoder: str, class_noun: str, source: "Source") -> ShownPhotos:
    """The photos of a subject at the resolution that is drawn.

    Raises:
        LookforwardError: the photos cannot be used, or `source` has a subject already.
    """
    import numpy as np

    from lookforward.data.subject import load_subject
    from lookforward.files import digest_folder
    from lookforward.models.encoders import to_unit
    from lookforward.models.photo_encoder import WEIGHTS, find_encoder

    if source.manifest["identifier"] == NEW_WORD:
        message = f"{source.given} has a subject {NEW_WORD} already: give a base model with --photos."
        raise LookforwardError(message, code="identifier-known")
    noun = " ".join(class_noun.split())
    subject = load_subject(
        photos, class_noun=noun or "subject", identifier=NEW_WORD, resolution=512, allow_few=True, captions=False
    )
    pixels = to_unit(np.stack([photo.pixels for photo in subject.photos]))
    if is_ip_adapter(encoder):  # which shows photos to every prompt
        manifest = {"identifier": noun or "subject", "class_noun": "", "noun_in_prompt": False}
        record = {"name": f"{encoder.rpartition('/')[2]} on {photos.resolve().name}", "adapter": "ip-adapter"}
        return ShownPhotos(pixels, encoder, manifest, record | {"strength": 1.0, "hash": ""}, ())
    folder = find_encoder(encoder)
    manifest = {"identifier": NEW_WORD, "class_noun": noun, "noun_in_prompt": bool(noun)}
    digest = digest_folder(folder, WEIGHTS)[:10]
    name = folder.resolve().parent.name if folder.name == "export" else folder.resolve().name
    record = {"name": f"{name} on {photos.resolve().name}", "adapter": "elite", "strength": 1.0, "hash": digest}
    return ShownPhotos(pixels, folder, manifest, record, ())
