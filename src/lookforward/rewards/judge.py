"""A vision-language model as judge: how likely it answers yes when asked whether the image shows the prompt.

    r(x, y) = P(yes) / (P(yes) + P(no)),    the next token after "Does this image show y? Answer yes or no."

as VQAScore asks (Lin et al., 2024). Reads `image` and `prompts`; not differentiable.
"""

from lookforward.core.specs import Resources, RewardSpec
from lookforward.rewards.image import ImageReward


def _build(name: str, given: Resources) -> ImageReward:
    return ImageReward(name, given.encoders.judge_of(name.partition(":")[2]))


JUDGE = RewardSpec(
    "judge", "VLM judge", "image and its prompt, by a vision-language model that is asked", _build, "[0, 1]",
    "Lin et al., 2024", differentiable=False, takes_argument="MODEL",
)  # fmt: skip
