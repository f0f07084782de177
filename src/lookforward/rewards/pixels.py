"""The images that a reward looks at, found in a transition."""

from torch import Tensor

from lookforward.core.types import Transition


def decoded(transition: Transition, name: str) -> Tensor:
    """The decoded image (b, 3, H, W). Raises ValueError where there is none for the reward `name`."""
    if transition.image is None:
        raise ValueError(f"reward {name!r} looks at the image: decode x_0_hat into Transition.image first")
    return transition.image


def image_and_photo(transition: Transition, name: str) -> tuple[Tensor, Tensor]:
    """The decoded image and the reference photo, both (b, 3, H, W). Raises ValueError where they do not match."""
    image, photo = decoded(transition, name), transition.photo
    if photo is None:
        raise ValueError(f"reward {name!r} looks at the reference photo: give Transition.photo")
    if image.shape != photo.shape:
        raise ValueError(f"reward {name!r} compares {tuple(image.shape)} with a photo of {tuple(photo.shape)}")
    return image, photo.to(image)
