"""The encoders that rewards or scores look with, each loaded once, when it is first asked for."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lookforward.models.encoders.embedding import load_embedding
from lookforward.models.encoders.encoders import ClipEncoders, ImageEncoder, load_clip, load_dino, load_dinov2
from lookforward.models.encoders.judge import Judge, load_judge
from lookforward.models.encoders.perceptual import Distance, load_dreamsim, load_lpips
from lookforward.models.weight_files import local_folder


class Encoders:
    """Encoders by name: dino, clip, dinov2, identity, lpips, dreamsim, and any other by its folder or hub id.

    Args:
        sources: name to folder or hub id; a model has no encoder whose name is not among them.
        device: where they are to run.
        published: whether they preprocess as their authors do, for scores; without it they are differentiable.
        loaded: encoders that are there already, by name.

    Each attribute raises LookforwardError where it cannot be loaded, or its package is missing.
    """

    def __init__(
        self, sources: Mapping[str, str], device: torch.device | str = "cpu", *, published: bool = False, **loaded: Any
    ) -> None:
        self.sources, self.device, self._published = dict(sources), device, published
        self.names = {*sources, *loaded}
        vars(self).update(loaded)
        self._others: dict[str, ImageEncoder] = {}

    @cached_property
    def dino(self) -> ImageEncoder:
        return self._load(load_dino, self.sources["dino"])

    @cached_property
    def clip(self) -> ClipEncoders:
        return self._load(load_clip, self.sources["clip"])

    @cached_property
    def dinov2(self) -> ImageEncoder:
        return self._load(load_dinov2, self.sources["dinov2"])

    @cached_property
    def identity(self) -> ImageEncoder:
        """For evaluation only, never for a reward."""
        return self._load(load_embedding, self.sources["identity"])

    @cached_property
    def lpips(self) -> Distance:
        return load_lpips(self.device)

    @cached_property
    def dreamsim(self) -> Distance:
        return load_dreamsim(self.device)

    @cached_property
    def pickscore(self) -> ClipEncoders:
        return self.preference(self.sources["pickscore"])

    @cached_property
    def hpsv2(self) -> ClipEncoders:
        return self.preference(self.sources["hpsv2"])

    @cached_property
    def judge(self) -> Judge:
        return self.judge_of(self.sources["judge"])

    def preference(self, source: str) -> ClipEncoders:
        """A CLIP model that was tuned on what people choose: a folder, or a hub id that may end in @REVISION."""
        return self._load(load_clip, _folder_of(source))

    def judge_of(self, source: str) -> Judge:
        """A vision-language model that is asked; source as of `preference`."""
        return load_judge(_folder_of(source), self.device)

    def embedding(self, source: str) -> ImageEncoder:
        """Any vision model of transformers, by its folder or hub id."""
        if source not in self._others:
            self._others[source] = self._load(load_embedding, source)
        return self._others[source]

    def _load(self, load: Callable[..., Any], source: str | Path) -> Any:
        encoder = load(source, self.device)
        return encoder.published() if self._published else encoder


def _folder_of(source: str) -> Path:
    """The folder of "MODEL" or "MODEL@REVISION", a folder or a hub id."""
    if os.path.isdir(source):
        return Path(source)
    model, _, revision = source.partition("@")
    return local_folder(model, revision=revision)
