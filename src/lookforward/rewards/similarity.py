"""The rewards of an encoder: mean cosine similarity of the image to each reference photo, in [-1, 1].

Each reads `image` and is differentiable in it. Eq. 10 is κ̂·κ - 1 for one reference photo; here the mean over all, so
that the background of one counts less, and without the constant, which no gradient of the policy sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lookforward.core.specs import Resources, RewardSpec
from lookforward.rewards.image import ImageReward

if TYPE_CHECKING:
    from lookforward.models.encoders import Encoders, ImageEncoder


def similarity_reward(
    name: str, label: str, source: str, find: Callable[[Encoders, str], ImageEncoder], **more: Any
) -> RewardSpec:
    """find: from the encoders, and what follows the colon in the reward's name, to the encoder."""

    def build(written: str, given: Resources) -> ImageReward:
        from lookforward.models.encoders.similarity import Similarity

        encoder = find(given.encoders, written.partition(":")[2])
        return ImageReward(written, Similarity(encoder, given.photos))

    return RewardSpec(
        name, label, f"image and all reference photos, by {label}", build, "[−1, 1]", source, per_subject=True, **more
    )
