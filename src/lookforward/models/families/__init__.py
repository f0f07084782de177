"""Model families, one file each. To add one: its file, its line here, and its test."""

from typing import Any

from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError
from lookforward.models.families.sd import SD

FAMILIES: tuple[Family, ...] = (SD,)


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
        f"A {pipeline_classes[0]} is of no model family that lookforward knows. It knows {known}.",
        code="family-unknown",
    )
