"""Masks of the subject by a segmentation model of transformers, found by its class noun.

CLIPSeg (Lüddecke and Ecker, 2022) finds what words name. Other segmentation models know a list of labels, of which one
must have the noun in it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    AutoProcessor,
    CLIPSegForImageSegmentation,
)
from transformers import pipeline as transformers_pipeline
from transformers.models.auto import modeling_auto as auto

from lookforward.data.masks import MASK_SUFFIX
from lookforward.data.photo import Photo, cut_photo
from lookforward.errors import LookforwardError
from lookforward.files import atomic_file
from lookforward.models.weight_files import explain_load_error, load_weights, local_folder

Mask = NDArray[np.bool_]
_BY_LABEL = frozenset(auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES) | frozenset(
    auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
)
_LEAST = 0.002  # of a photo, below which a mask shows nothing


@dataclass(frozen=True)
class Masked:
    """What came of a photo. file: its mask; None if none was written. share: of the photo that is the subject, in
    [0, 1]. why: nothing was written."""

    photo: Photo
    file: Path | None
    share: float = 0.0
    why: str = ""


def load_segmenter(source: str, noun: str, threshold: float, device: torch.device | str) -> Callable[..., Mask]:
    """A function from an image, upright (h, w, 3) uint8, to where the subject is, (h, w) bool.

    source: a folder or a hub id. threshold: the probability from which a pixel counts.

    Raises:
        LookforwardError: the model cannot be loaded, segments nothing, or has no label of that noun.
    """
    folder = local_folder(source)
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:
        raise explain_load_error(folder, error) from error
    if config.model_type == "clipseg":
        return _by_words(folder, noun, threshold, device)
    if config.model_type in _BY_LABEL:
        return _by_label(folder, source, config, noun, threshold, device)
    raise LookforwardError(
        f"{source} is a model {config.model_type!r}, which segments no image by a noun: give CLIPSeg, such as "
        "CIDAS/clipseg-rd64-refined, or a model for image-segmentation that knows the class.",
        code="mask-model",
    )


def write_masks(photos: tuple[Photo, ...], find: Callable[..., Mask], *, replace: bool = False) -> Iterator[Masked]:
    """Write the mask of each photo beside it, `dog.mask.png`, and say what came of it. replace: masks that are there.

    Raises:
        LookforwardError: a photo cannot be read any more, or the folder cannot be written.
    """
    stems = [photo.path.stem for photo in photos]
    for photo in photos:
        if photo.mask_file is not None and not replace:
            yield Masked(photo, None, why=f"{photo.mask_file.name} is there")
            continue
        mask = find(cut_photo(photo.path, photo.upright_size)[0])
        if mask.mean() < _LEAST:
            yield Masked(photo, None, why="nothing was found: paint the mask yourself, or lower --threshold")
            continue
        name = photo.path.stem if stems.count(photo.path.stem) == 1 else photo.path.name
        file = photo.mask_file or photo.path.with_name(f"{name}{MASK_SUFFIX}")
        with atomic_file(file) as partial:
            Image.fromarray(mask.astype(np.uint8) * 255).save(partial, format="PNG")
        yield Masked(photo, file, float(mask.mean()))


def _by_words(folder: Path, noun: str, threshold: float, device: torch.device | str) -> Callable[..., Mask]:
    model = load_weights(CLIPSegForImageSegmentation, folder).eval().to(device)
    try:
        processor = AutoProcessor.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:
        raise explain_load_error(folder, error) from error

    @torch.no_grad()
    def find(pixels: NDArray[np.uint8]) -> Mask:
        inputs = processor(text=[noun], images=[Image.fromarray(pixels)], return_tensors="pt").to(device)
        logits = model(**inputs).logits
        logits = logits.reshape(1, 1, *logits.shape[-2:])  # one image, of which some versions make no batch
        sized = torch.nn.functional.interpolate(logits, pixels.shape[:2], mode="bilinear", align_corners=False)
        return (sized[0, 0].sigmoid() >= threshold).cpu().numpy()

    return find


def _by_label(
    folder: Path, source: str, config: Any, noun: str, threshold: float, device: torch.device | str
) -> Callable[..., Mask]:
    wanted = {label for label in config.id2label.values() if _names(label, noun)}
    if not wanted:
        known = ", ".join(list(config.id2label.values())[:12])
        raise LookforwardError(
            f"{source} has no label for {noun!r} (it knows {known}, …): give another --class-noun for it, or CLIPSeg, "
            "which takes any words.",
            code="mask-label",
        )
    semantic = config.model_type in auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    kind = AutoModelForSemanticSegmentation if semantic else AutoModelForUniversalSegmentation
    model = load_weights(kind, folder, trust_remote_code=False)
    try:
        images = AutoImageProcessor.from_pretrained(str(folder), trust_remote_code=False)
        segment: Any = transformers_pipeline(
            "image-segmentation", model=model, image_processor=images, device=torch.device(device)
        )
    except Exception as error:
        raise explain_load_error(folder, error) from error

    def find(pixels: NDArray[np.uint8]) -> Mask:
        found = segment(Image.fromarray(pixels), mask_threshold=threshold)
        masks = [np.asarray(one["mask"]) > 127 for one in found if one["label"] in wanted]
        return np.any(masks, axis=0) if masks else np.zeros(pixels.shape[:2], bool)

    return find


def _names(label: str, noun: str) -> bool:
    """Whether a label, such as "dog, domestic dog", names a class noun, in part: "toy dog" is a dog."""
    words = set(label.casefold().replace(",", " ").split())
    return noun.casefold() == label.casefold() or noun.casefold().split()[-1] in words
