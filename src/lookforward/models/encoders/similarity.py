"""What rewards and scores measure alike: likeness to the reference photos, and agreement with the prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from lookforward.models.encoders.encoders import ClipEncoders, ImageEncoder

_BATCH = 32  # images encoded at a time
_MOST_KEPT = 64  # sets of prompts whose embeddings are kept

# Within `encoding_once`: embeddings by encoder and images, each with what it is named by, which must stay alive
_once: ContextVar[dict[tuple[int, int], tuple[ImageEncoder, Tensor, Tensor]] | None] = ContextVar("once", default=None)


@contextmanager
def encoding_once() -> Iterator[None]:
    """Within it, an encoder sees the same tensor of images once, whichever scores ask for it. Without a gradient."""
    token = _once.set({})
    try:
        yield
    finally:
        _once.reset(token)


class Similarity:
    """Mean cosine similarity of an image to each of the reference photos, in [-1, 1].

        r(x) = 1/k Σ_j cos(f(x), f(r_j))

    Differentiable with respect to the images; the encoder and the references stay as they are.
    """

    def __init__(self, encoder: ImageEncoder, references: Tensor) -> None:
        """`references`: the subject's photos (k, 3, h, w), float in [0, 1], k at least 1, else ValueError."""
        if len(references) == 0:
            raise ValueError("likeness needs at least one reference photo, got none")
        self.encoder = encoder
        with torch.no_grad():
            self.references = encoder(references)  # (k, d)

    def __call__(self, images: Tensor, prompts: Sequence[str] = ()) -> Tensor:
        """images (b, 3, h, w), float in [0, 1] → (b,). The prompts do not matter."""
        return (_encode(self.encoder, images) @ self.references.T).mean(dim=1)


class PromptSimilarity:
    """Cosine similarity of an image to its own prompt under CLIP's two towers, in [-1, 1].

        r(x, y) = cos(g(x), h(y))

    Differentiable with respect to the images.
    """

    def __init__(self, encoders: ClipEncoders) -> None:
        self.encoders = encoders
        self._texts: dict[tuple[str, ...], Tensor] = {}

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (b, 3, h, w), float in [0, 1]; b prompts → (b,). Raises ValueError for other counts."""
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images need as many prompts, got {len(prompts)}")
        return (_encode(self.encoders.image, images) * self._text(prompts)).sum(dim=1)

    def _text(self, prompts: Sequence[str]) -> Tensor:
        """(b, d). Equal prompts are encoded once, and those of an earlier call not again: the encoder is frozen."""
        distinct = tuple(dict.fromkeys(prompts))
        if distinct not in self._texts:
            if len(self._texts) >= _MOST_KEPT:
                self._texts.clear()
            self._texts[distinct] = self.encoders.text(distinct)
        places = {prompt: i for i, prompt in enumerate(distinct)}
        return self._texts[distinct][[places[prompt] for prompt in prompts]]


def _encode(encoder: ImageEncoder, images: Tensor) -> Tensor:
    known = _once.get()
    key = (id(encoder), id(images))
    if known is not None and key in known:
        return known[key][2]
    encoded = torch.cat([encoder(part) for part in images.split(_BATCH)])  # (b, d)
    if known is not None:
        known[key] = encoder, images, encoded
    return encoded
