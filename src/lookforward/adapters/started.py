"""Adapters over a model that is shown what a photo encoder gives."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lookforward.adapters.elite import (
    Start,
    add_start_words,
    become,
    plain_pipeline,
    prompt_of,
    release,
    set_words,
    table_of,
    write_photo_prompt,
)
from lookforward.adapters.words import Word, remove_words
from lookforward.core.protocols import Adapter
from lookforward.models.families.photo_prompts.pipeline import PhotoPromptPipeline
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class StartedAdapter:
    """Another adapter, over a model that is shown what an encoder gives.

    words: of the run's subjects. learns_words: whether the adapter adds and trains them itself; else they stay as the
    encoder wrote them. The details stay as they are.
    """

    inner: Adapter
    words: tuple[Word, ...]
    start: Start
    learns_words: bool

    @property
    def changes_prompts(self) -> bool:
        return self.inner.changes_prompts

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        parameters = self.inner.attach(policy)  # first, so that its names are those of the plain model
        if self.learns_words:
            set_words(table_of(policy), self.start)
        else:
            add_start_words(policy, self.words, self.start).rows.requires_grad_(False)
        if (prompt := prompt_of(self.words, self.start)) is not None:
            become(policy.pipeline).set_photo_prompt(prompt.requires_grad_(False))
        return parameters

    def detach(self, policy: DiffusionPolicy) -> None:
        release(policy.pipeline)
        if not self.learns_words:
            remove_words(policy.pipeline)
        self.inner.detach(policy)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        """What the adapter itself writes, and beside it the photo prompt."""
        shown = isinstance(policy.pipeline, PhotoPromptPipeline)
        with plain_pipeline(policy, words=not self.learns_words):
            self.inner.export(policy, folder)
        if shown or not self.learns_words:
            write_photo_prompt(policy, folder, self.words, with_words=not self.learns_words)
