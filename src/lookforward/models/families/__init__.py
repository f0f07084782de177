"""Model families, one file each. To add one: its file, its line here, and its test; or an entry point of another
distribution in the group `lookforward.families`.

Nothing heavy is imported before a pipeline is there, so that settings and command line can read what families say.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookforward.bundle import BUNDLED, known_model
from lookforward.core.specs import installed
from lookforward.errors import LookforwardError
from lookforward.models.families.flux import FLUX
from lookforward.models.families.flux2 import FLUX2_DEV, FLUX2_KLEIN
from lookforward.models.families.qwen_image import QWEN_IMAGE
from lookforward.models.families.sd import SD
from lookforward.models.families.sd3 import SD3
from lookforward.models.families.sdxl import SDXL
from lookforward.models.families.z_image import Z_IMAGE

if TYPE_CHECKING:
    from lookforward.core.protocols import Family

FAMILIES: tuple[Family, ...] = (
    SD,
    SD3,
    SDXL,
    FLUX,
    FLUX2_KLEIN,
    FLUX2_DEV,
    Z_IMAGE,
    QWEN_IMAGE,
    *installed("lookforward.families"),
)


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline.

    Raises:
        LookforwardError: it is of no known family.
    """
    return find_family(*(kind.__name__ for kind in type(pipeline).__mro__))


def find_family(*pipeline_classes: str) -> Family:
    """The family of the first of these names, as in model_index.json, that is the pipeline class of one.

    Raises:
        LookforwardError: no family has such a pipeline.
    """
    for family in FAMILIES:
        if family.pipeline_class in pipeline_classes:
            return family
    known = ", ".join(f"{family.label} ({family.pipeline_class})" for family in FAMILIES)
    raise LookforwardError(
        f"A {pipeline_classes[0]} is not a supported pipeline. lookforward supports {known}.",
        code="family-unknown",
    )


PAPER_MODEL = "CompVis/stable-diffusion-v1-4"


def family_named(model: str, revision: str = "") -> Family:
    """The family of a model before it is loaded: bundled, of a folder or hub id; the first of all if that is unknown.

    Of a hub id that is not in the download cache, the hub is asked once, without a download; but not of the paper's
    model, to which every report compares.
    """
    if model == PAPER_MODEL:
        return FAMILIES[0]
    if model in BUNDLED:
        bundled = known_model(model)
        return next((one for one in FAMILIES if bundled and one.name == bundled.family), FAMILIES[0])
    return family_of_index(model, revision)


@cache
def family_of_index(model: str, revision: str) -> Family:
    """The family that the model_index.json of a folder or hub id names; the first of all if there is none."""
    index: Any = Path(model) / "model_index.json"
    try:
        if not Path(model).exists():
            from huggingface_hub import HfApi, try_to_load_from_cache

            pinned = revision or None
            index = try_to_load_from_cache(model, "model_index.json", revision=pinned)
            if not isinstance(index, str):
                return find_family(
                    (HfApi().model_info(model, revision=pinned, timeout=2).config or {})["diffusers"]["_class_name"]
                )
        return find_family(json.loads(Path(index).read_text(encoding="utf-8"))["_class_name"])
    except Exception:  # loading the model will say what is wrong
        return FAMILIES[0]
