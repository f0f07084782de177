"""The judge: a classifier of class, scene, colour, accessory and property, trained apart from what it evaluates."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import ResNetForImageClassification

from lookforward.models.encoders import load_weights
from lookforward_toybox.labels import GROUPS, LABELS


class Judge:
    """Answers one value of each group of `labels.GROUPS`."""

    def __init__(self, folder: Path) -> None:
        self.model = load_weights(ResNetForImageClassification, folder).eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[dict[str, str]]:
        """Images (n, 3, 64, 64) in [0, 1] to, for each, group to value, such as {"class_noun": "dog", …}."""
        answers: list[dict[str, str]] = [{} for _ in images]
        for group, part in GROUPS.items():
            names = [label.split(": ", 1)[1] for label in LABELS[part]]
            best = torch.cat([self.model(some * 2 - 1).logits[:, part] for some in images.split(64)]).argmax(dim=1)
            for answer, i in zip(answers, best.tolist(), strict=True):
                answer[group] = names[i]
        return answers
