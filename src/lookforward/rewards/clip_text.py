"""CLIP text alignment: does the image show what the prompt says?"""

from torch import Tensor

from lookforward.core.types import Transition
from lookforward.models.encoders import ClipEncoders
from lookforward.rewards.pixels import decoded


class ClipTextReward:
    """Cosine similarity of the image to its own prompt under CLIP's two towers (Radford et al., 2021), in [-1, 1].

    Reads `image` and `prompts`; differentiable in the image. The paper's future work: a reward for the prompt, so
    that likeness is not bought with it.
    """

    name = "clip-text"
    needs_image = True

    def __init__(self, encoders: ClipEncoders) -> None:
        self.encoders = encoders

    def __call__(self, transition: Transition) -> Tensor:
        """(b,). Raises ValueError unless there is one prompt for each image."""
        image = decoded(transition, self.name)
        if len(image) != len(transition.prompts):
            raise ValueError(f"{len(image)} images need as many prompts, got {len(transition.prompts)}")
        pictures = self.encoders.image(image)  # (b, d)
        texts = self.encoders.text(transition.prompts)  # (b, d)
        return (pictures * texts).sum(dim=1)  # (b,)
