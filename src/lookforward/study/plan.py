"""Which pairs a rater is shown, in which order, and which image is on the left."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Place:
    """One question: a pair of images.

    swapped: whether the pair's second image is on the left. repeated: whether the rater has seen the pair before.
    """

    pair: int
    swapped: bool
    repeated: bool = False


def plan_places(pairs: Sequence[int], shown: int, repeats: int, rng: np.random.Generator) -> list[Place]:
    """The questions of one rater, in order.

    pairs: ids of pairs, those with the fewest answers so far first. shown: how many of them the rater sees; repeats:
    how many are asked a second time, with sides exchanged, to see whether the rater agrees with themselves. They come
    from the first half and return among the second, so that nobody remembers the answer. Sides are random.

    Raises ValueError where more is asked for than there is.
    """
    if not 0 < shown <= len(pairs) or not 0 <= repeats <= (shown + 1) // 2:
        raise ValueError(f"{shown} pairs with {repeats} repeats cannot be taken from {len(pairs)} pairs")
    chosen = [pairs[i] for i in rng.permutation(shown)]
    places = [Place(pair, bool(rng.integers(2))) for pair in chosen]
    half = (shown + 1) // 2
    again = [places[i] for i in sorted(rng.choice(half, size=repeats, replace=False))]
    later = places[half:] + [Place(one.pair, not one.swapped, repeated=True) for one in again]
    return places[:half] + [later[i] for i in rng.permutation(len(later))]
