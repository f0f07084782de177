"""A weighted sum of rewards, Eq. 11's "complex reward"."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.rewards.terms import format_terms


class WeightedSum:
    """Σ_i w_i r_i. Reads what its parts read; its range is theirs, weighted; differentiable where all parts are.

    A negative weight turns a penalty into a reward. A term of weight 0 is computed and logged, and has no effect.
    The combination of rewards of section 3.4 of the paper.
    """

    def __init__(self, terms: Sequence[tuple[float, Reward]]) -> None:
        """`terms`: (weight, reward), at least one, no name twice; else ValueError."""
        self.terms = tuple(terms)
        self.weights = {reward.name: weight for weight, reward in self.terms}
        if not 0 < len(self.weights) == len(self.terms):
            raise ValueError(f"a sum needs rewards of distinct names, got {[reward.name for _, reward in self.terms]}")
        self.name = format_terms([(weight, reward.name) for weight, reward in self.terms])
        self.needs_image = any(reward.needs_image for _, reward in self.terms)

    def __call__(self, transition: Transition) -> Tensor:
        return self.total(self.parts(transition))  # (b,)

    def parts(self, transition: Transition) -> dict[str, Tensor]:
        """Each reward by name, without its weight: (b,) each."""
        return {reward.name: reward(transition) for _, reward in self.terms}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """What `parts` returned, weighted and summed: (b,)."""
        first, *rest = (weight * parts[name] for name, weight in self.weights.items())
        return sum(rest, first)
