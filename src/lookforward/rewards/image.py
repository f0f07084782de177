"""Rewards that look at the decoded image: one body, given what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lookforward.core.types import Transition


class ImageReward:
    """`measure(images, prompts)`, from (b, 3, H, W) in [0, 1] and b prompts without the identifier to (b,).

    Reads `image` and `prompts`; differentiable where the measure is.
    """

    needs_image = True

    def __init__(self, name: str, measure: Callable[[Tensor, Sequence[str]], Tensor]) -> None:
        self.name, self.measure = name, measure

    def __call__(self, transition: Transition) -> Tensor:
        return self.measure(decoded(transition, self.name), transition.prompts)  # (b,)


class PhotoReward:
    """`measure(images, photos)`, from the image and the reference photo, both (b, 3, H, W) in [0, 1], to (b,).

    Reads `image` and `photo`; differentiable where the measure is.
    """

    needs_image = True

    def __init__(self, name: str, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.name, self.measure = name, measure

    def __call__(self, transition: Transition) -> Tensor:
        """(b,). Raises ValueError where there is no photo, or it does not match the image."""
        image, photo = decoded(transition, self.name), transition.photo
        if photo is None:
            raise ValueError(f"reward {self.name!r} looks at the reference photo: give Transition.photo")
        if image.shape != photo.shape:
            raise ValueError(f"reward {self.name!r} compares {tuple(image.shape)} with a photo of {tuple(photo.shape)}")
        return self.measure(image, photo.to(image))


def decoded(transition: Transition, name: str) -> Tensor:
    """The decoded image (b, 3, H, W). Raises ValueError where there is none for the reward `name`."""
    if transition.image is None:
        raise ValueError(f"reward {name!r} looks at the image: decode x_0_hat into Transition.image first")
    return transition.image
