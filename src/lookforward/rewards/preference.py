"""Human preference: PickScore (Kirstain et al., 2023), HPSv2 (Wu et al., 2023), and other CLIP models tuned on choices.

    r(x, y) = cos(g(x), h(y))

of the tuned model's two towers. PickScore's own number is exp(logit scale) r, about 100 r, and HPSv2's is r itself.
Reads `image` and `prompts`; differentiable in the image.
"""

from lookforward.core.specs import Resources, RewardSpec
from lookforward.rewards.image import ImageReward


def _build(name: str, given: Resources) -> ImageReward:
    from lookforward.models.encoders.similarity import PromptSimilarity

    return ImageReward(name, PromptSimilarity(given.encoders.preference(name.partition(":")[2])))


PREFERENCE = RewardSpec(
    "preference", "Human preference", "image and its prompt, by a CLIP model tuned on what people choose", _build,
    "[−1, 1]", "Kirstain et al., 2023; Wu et al., 2023", takes_argument="MODEL",
)  # fmt: skip
