"""Several subjects in one run: each sample is compared with the photos of its own."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.rewards.image import decoded


class PerSubjectReward:
    """One reward for each subject, of one name; a sample gets that of the subject it shows.

    Reads `image` and `subject`; differentiable where they are. For rewards that read nothing but `image` beside
    references of their own.
    """

    needs_image = True

    def __init__(self, rewards: Sequence[Reward]) -> None:
        """`rewards`: in the order of the subjects."""
        self.rewards = tuple(rewards)
        self.name = self.rewards[0].name

    def __call__(self, transition: Transition) -> Tensor:
        """(b,). Raises ValueError where the transition does not say which subject a sample shows."""
        image, subject = decoded(transition, self.name), transition.subject
        if subject is None:
            raise ValueError(f"reward {self.name!r} is of {len(self.rewards)} subjects: give Transition.subject")
        places: list[Tensor] = []
        values: list[Tensor] = []
        for i, reward in enumerate(self.rewards):
            place = (subject == i).nonzero()[:, 0].to(image.device)
            if len(place):
                places.append(place)
                values.append(reward(replace(transition, image=image[place])))
        return torch.cat(values)[torch.cat(places).argsort()]  # back into the order of the samples
