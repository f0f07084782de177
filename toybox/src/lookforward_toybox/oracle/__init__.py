"""Oracle score: fidelity with no learned encoder, for a world that knows its subjects' drawings.

1 − √(least masked error) over all alignments of the subject's drawing with the image; 1 is identical. See
`alignment.py`, and `masked_error.py` for the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookforward.core.specs import Resources, ScoreSpec

if TYPE_CHECKING:
    from lookforward_toybox.oracle.alignment import OracleScore


def _build(given: Resources) -> OracleScore:
    from lookforward_toybox.oracle.alignment import OracleScore

    assert given.drawing is not None
    return OracleScore(given.drawing)


ORACLE = ScoreSpec(
    "oracle", "oracle", "Is it this very subject, by its own drawing laid over the image?", _build, needs_drawing=True
)
