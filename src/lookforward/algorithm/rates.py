"""Learning rates over a run, a function of the step alone: a resumed run has those of one that never stopped."""

import math
from dataclasses import dataclass
from typing import Literal

RateKind = Literal["constant", "cosine"]


@dataclass(frozen=True)
class RateSchedule:
    """What share of the learning rate a step has.

    kind: after the warm-up, "constant", or "cosine": down half a cosine to zero at the end of the run (Loshchilov and
    Hutter, 2017). warmup: steps in which the rate rises to its full value on a straight line; the first has 1/warmup.
    decay: share of the run's steps, the last ones, over which a constant rate falls to zero on a straight line.
    """

    kind: RateKind = "constant"
    warmup: int = 0
    decay: float = 0.0

    def share(self, step: int, steps: int) -> float:
        """Of the step after `step` finished ones, in a run of `steps`: in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, steps - self.warmup)))
        return 1.0 if self.decay == 0 else min(1.0, (steps - step) / (self.decay * steps))
