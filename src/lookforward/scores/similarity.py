"""The scores of an encoder: mean cosine similarity of an image to each of the reference photos.

    s(x) = 1/k Σ_j cos(f(x), f(r_j))

In [-1, 1], higher is better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lookforward.core.specs import Resources, ScoreSpec
from lookforward.scores.measure import MeasureScore

if TYPE_CHECKING:
    from lookforward.models.encoders import Encoders, ImageEncoder


def similarity_score(
    name: str,
    label: str,
    help: str,
    encoder: str,
    find: Callable[[Encoders], ImageEncoder],
    *,
    on_request: bool = False,
) -> ScoreSpec:
    """find: from the encoders to the one to look with, `encoder` being its name.

    No evidence after the reward of the same name, nor after `embedding:MODEL` with the model of its encoder.
    """

    def build(given: Resources) -> MeasureScore:
        from lookforward.models.encoders.similarity import Similarity

        return MeasureScore(label, Similarity(find(given.encoders), given.photos))

    return ScoreSpec(name, label, help, build, on_request, encoder, rewards=(name, "embedding"))
