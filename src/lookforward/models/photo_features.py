"""What a CLIP image encoder sees in photos, in several of its layers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lookforward.models.encoders import ClipEncoders

MOST_LAYERS = 5


class PhotoFeatures(NamedTuple):
    """What the image encoder sees in b photos. words: (b, k, 2f), class token and mean patch of k layers, the deepest
    first. patches: (b, n, k, f), each patch of those layers."""

    words: Tensor
    patches: Tensor


class VisionTower:
    """Features of several layers of a frozen CLIP image encoder."""

    def __init__(self, clip: ClipEncoders, layers: Sequence[int]) -> None:
        self.clip, self.layers = clip, tuple(layers)

    @torch.no_grad()
    def __call__(self, photos: Tensor) -> PhotoFeatures:
        """photos (b, 3, H, W) in [0, 1]."""
        tower: Any = self.clip.model.vision_model
        seen = tower(pixel_values=self.clip.image.preprocess(photos), output_hidden_states=True).hidden_states
        chosen = torch.stack([seen[layer] for layer in self.layers], dim=2).float()  # (b, 1 + n, k, f)
        patches = chosen[:, 1:]
        return PhotoFeatures(torch.cat([chosen[:, 0], patches.mean(dim=1)], dim=-1), patches)


def tower_layers(clip: ClipEncoders) -> list[int]:
    """At most five layers, evenly spread, the deepest first: 24, 19, 14, 10 and 5 of ViT-L."""
    vision: Any = clip.model.config.vision_config
    count = vision.num_hidden_layers
    most = min(MOST_LAYERS, count)
    return [round(count * i / most) for i in range(most, 0, -1)]
