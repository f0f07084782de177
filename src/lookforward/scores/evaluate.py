"""Score images: numbers for evaluation only."""

from collections.abc import Sequence

import numpy as np
import torch

from lookforward.core.protocols import Score
from lookforward.models.encoders import to_unit
from lookforward.models.encoders.similarity import encoding_once


def score_images(scores: Sequence[Score], images: np.ndarray, prompts: Sequence[str]) -> dict[str, np.ndarray]:
    """Every score of every image: name to (n,) float64.

    images: (n, h, w, 3) uint8; prompts: n texts as CLIP-T is to see them, which is without the identifier
    unless the caller keeps it.
    """
    with torch.inference_mode(), encoding_once():
        units = to_unit(images)
        return {score.name: score(units, prompts).cpu().double().numpy() for score in scores}
