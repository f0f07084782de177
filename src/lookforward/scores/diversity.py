"""Diversity score: do images of one prompt differ? (DIV of Ruiz et al., DreamBooth, 2023, by LPIPS)"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lookforward.core.specs import ScoreSpec
from lookforward.scores.measure import MeasureScore

if TYPE_CHECKING:
    from torch import Tensor

    from lookforward.models.encoders.perceptual import Distance

_BATCH = 32  # pairs at a time


def diversity(distance: Distance, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Mean LPIPS distance of an image to the other images of its prompt.

        diversity(x_i) = 1/(m-1) Σ_{j≠i} d(x_i, x_j)

    over the m images of the prompt of x_i. So the mean over a prompt's images is the mean over its pairs. From 0, all
    alike, to about 1. A method that learned its photos by heart falls; noise rises: read it beside fidelity.

    distance: LPIPS; taken to be symmetric. images (n, 3, h, w), float in [0, 1]; n prompts → (n,). Raises ValueError
    for a prompt with one image.
    """
    import torch

    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images need as many prompts, got {len(prompts)}")
    alone = [prompt for prompt in dict.fromkeys(prompts) if prompts.count(prompt) < 2]
    if alone:
        raise ValueError(f"diversity needs at least two images of each prompt, there is one of {alone[0]!r}")
    pairs = torch.tensor([(i, j) for i, p in enumerate(prompts) for j in range(i) if prompts[j] == p])  # (p, 2)
    near = [distance(images[part[:, 0]], images[part[:, 1]]).cpu() for part in pairs.split(_BATCH)]
    distances = torch.cat(near).repeat_interleave(2)  # of both ends of each pair
    total = torch.zeros(len(prompts)).to(distances).index_add(0, pairs.flatten(), distances)
    return total / torch.tensor([prompts.count(prompt) - 1 for prompt in prompts])


DIVERSITY = ScoreSpec(
    "diversity",
    "diversity",
    "Do the images of one prompt differ?",
    lambda given: MeasureScore("diversity", partial(diversity, given.encoders.lpips)),
    on_request=True,
    encoder="lpips",
    images=2,
    package="lpips",
    rewards=("lpips",),
)
