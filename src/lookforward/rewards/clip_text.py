"""CLIP text alignment: does the image show what the prompt says?

Cosine similarity of the image to its own prompt under CLIP's two towers. Reads `image` and `prompts`; differentiable in
the image. The paper's future work: a reward for the prompt, so that likeness is not bought with it.
"""

from lookforward.core.specs import Resources, RewardSpec
from lookforward.rewards.image import ImageReward


def _build(name: str, given: Resources) -> ImageReward:
    from lookforward.models.encoders.similarity import PromptSimilarity

    return ImageReward(name, PromptSimilarity(given.encoders.clip))


CLIP_TEXT = RewardSpec(
    "clip-text", "CLIP text", "image and its prompt, by CLIP", _build, "[−1, 1]", "Radford et al., 2021", encoder="clip"
)
