"""Model families, one file each. To add one: its file, its line here, and its test."""

from typing import Any

from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError
from lookforward.models.families.sd import SD

FAMILIES: tuple[Family, ...] = (SD,)


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline.

    Raises:
        LookforwardError: it is of no family that is known.
    """
    names = [kind.__name__ for kind in type(pipeline).__mro__]
    for family in FAMILIES:
        if family.pipeline_class in names:
            return family
    raise LookforwardError(
        f"A {names[0]} is of no model family that lookforward knows: {', '.join(f.label for f in FAMILIES)}.",
        code="family-unknown",
    )
