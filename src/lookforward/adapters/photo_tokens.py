"""ELITE's kin for flow transformers: a subject as tokens beside those of the prompt."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn

from lookforward.adapters.in_place import InPlace
from lookforward.core.protocols import Adapter
from lookforward.files import write_tensors
from lookforward.models.families.photo_prompts import flow
from lookforward.models.families.photo_prompts.flow import WEIGHTS, PhotoTokensPipeline
from lookforward.models.policy import DiffusionPolicy

COUNT = 16  # tokens of a subject


@dataclass(frozen=True)
class PhotoTokensAdapter:
    """Tokens are all that is trained, or nothing is: `inner` then trains another adapter over them.

    identifiers: what prompts call the subjects. tokens: of each, (n, d), as an encoder gives them; None: they begin as
    the padding that they take the place of.
    """

    identifiers: tuple[str, ...]
    tokens: tuple[Tensor, ...] | None = None
    inner: Adapter | None = None

    @property
    def changes_prompts(self) -> bool:
        return self.inner.changes_prompts if self.inner else True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        if self.inner is None:
            for module in policy.components.values():
                module.requires_grad_(False)
        others = self.inner.attach(policy) if self.inner else None
        tokens = self.tokens or self._padding(policy)
        shown = {name: nn.Parameter(one.clone()) for name, one in zip(self.identifiers, tokens, strict=True)}
        become(policy.pipeline).photo_tokens = shown
        if others is None:
            return {f"tokens.{name}": one for name, one in shown.items()}
        for one in shown.values():
            one.requires_grad_(False)
        return others

    def _padding(self, policy: DiffusionPolicy) -> tuple[Tensor, ...]:
        with torch.no_grad():
            padding = policy.encode_prompts([""]).tokens[0, -COUNT:]
        return (padding,) * len(self.identifiers)

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)
        if self.inner is not None:
            self.inner.detach(policy)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        """What the other adapter writes, if there is one; the tokens, and the code that draws with them."""
        if self.inner is not None:
            with _plain(policy.pipeline):
                self.inner.export(policy, folder)
        shown: Any = policy.pipeline.photo_tokens
        tensors = {f"tokens.{name}": one.float() for name, one in shown.items()}
        width = str(next(iter(shown.values())).shape[1])
        about = {"format": "pt", "subjects": json.dumps(list(shown)), "width": width}
        write_tensors(folder / WEIGHTS, tensors, about)
        shutil.copyfile(Path(flow.__file__), folder / "pipeline.py")


def _forget(pipeline: PhotoTokensPipeline) -> None:
    pipeline.photo_tokens = None


_IN_PLACE = InPlace(StableDiffusion3Pipeline, PhotoTokensPipeline, _forget, "be shown photos")
become, release = _IN_PLACE.become, _IN_PLACE.release


@contextmanager
def _plain(pipeline: Any) -> Iterator[None]:
    shown = pipeline.photo_tokens
    release(pipeline)
    try:
        yield
    finally:
        become(pipeline).photo_tokens = shown
