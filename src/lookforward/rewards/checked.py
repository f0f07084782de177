"""A guard around any reward: what it returns is one finite number for each sample, or an error that names it."""

import torch
from torch import Tensor

from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.errors import LookforwardError

RESUME = "Then run the same command again to continue from the last checkpoint."


class CheckedReward:
    """The reward it was given, with its values, gradient, name and `needs_image`.

    Its call raises LookforwardError unless that reward returns (b,) finite numbers.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.name = reward.name
        self.needs_image = reward.needs_image

    def __call__(self, transition: Transition) -> Tensor:
        return check_values(self.reward(transition), len(transition.x_0), self.name)  # (b,)


def check_values(values: Tensor, count: int, name: str) -> Tensor:
    """`values` of the reward `name` as they are, if they are `count` finite numbers; whole numbers become float.

    Raises LookforwardError where they are not a tensor, of another shape, or not finite.
    """
    remedy = f"return one number for each image. {RESUME}"
    if not isinstance(values, Tensor):
        raise LookforwardError(
            f"Reward {name!r} returned a {type(values).__name__}, not a tensor; {remedy}", code="reward-values"
        )
    if values.shape != (count,):
        raise LookforwardError(
            f"Reward {name!r} returned shape {tuple(values.shape)} for {count} {'image' if count == 1 else 'images'}; "
            f"{remedy}",
            code="reward-values",
        )
    values = values if values.is_floating_point() else values.float()
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise LookforwardError(
            f"Reward {name!r} returned {values[first].item()} for image {first + 1} of {count}. If the reward divides "
            f"or takes a logarithm, keep it finite; if the images themselves went wrong, lower learning_rate. {RESUME}",
            code="reward-values",
        )
    return values
