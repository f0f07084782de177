"""The judge: a classifier of class, scene, colour, accessory and property, trained apart from what it evaluates."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import ResNetForImageClassification

from lookforward.models.weight_files import load_weights
from lookforward_toybox.labels import find_groups


class Judge:
    """Answers one value of each group of labels that its model names."""

    def __init__(self, folder: Path) -> None:
        self.model = load_weights(ResNetForImageClassification, folder).eval()
        names = self.model.config.id2label or {}
        self.labels = [names[i] for i in range(len(names))]
        self.groups = find_groups(self.labels)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[dict[str, str]]:
        """Images (n, 3, h, w) in [0, 1], of its side, to, for each, group to value, as {"class_noun": "dog", …}."""
        answers: list[dict[str, str]] = [{} for _ in images]
        logits = torch.cat([self.model(some * 2 - 1).logits for some in images.split(64)])  # (n, labels)
        for group, part in self.groups.items():
            names = [label.split(": ", 1)[1] for label in self.labels[part]]
            best = logits[:, part].argmax(dim=1)
            for answer, i in zip(answers, best.tolist(), strict=True):
                answer[group] = names[i]
        return answers
