"""What every score is."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Score(Protocol):
    """Judges finished images; for evaluation only, never for training (that is a reward)."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    @property
    def higher_is_better(self) -> bool: ...

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (n, 3, h, w), float in [0, 1]; n prompts → one score per image (n,)."""
        ...
