"""A step's batch in parts, of which one at a time is in memory, with the random numbers of the whole batch.

A process has a block of the photos of a step, and a micro-batch a part of that block.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lookforward.algorithm.environment import Environment
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.core.protocols import Policy
from lookforward.core.types import Batch, Conditioning, State, rows


def split(batch: Batch, parts: int) -> list[Batch]:
    """Micro-batches of b / parts photos and class images each."""
    size = len(batch.x_0) // parts
    return [rows(batch, slice(start, start + size)) for start in range(0, len(batch.x_0), size)]


class InParts:
    """A policy that acts on a few rows at a time, for acts without a gradient."""

    def __init__(self, policy: Policy, size: int) -> None:
        self.policy, self.size = policy, size
        self.path, self.prediction = policy.path, policy.prediction

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return self.policy.encode_prompts(prompts)

    def act(self, state: State) -> Tensor:
        starts = range(0, len(state.x_t), self.size)
        return torch.cat([self.policy.act(rows(state, slice(i, i + self.size))) for i in starts])


def decoding_in_parts(environment: Environment, size: int) -> Environment:
    """The environment, with images decoded a few at a time."""
    decode = environment.decode
    if decode is None:
        return environment
    return replace(environment, decode=lambda x_0: torch.cat([decode(part) for part in x_0.split(size)]))


class StepDropout:
    """Nested dropout of a learned word, drawn for the whole batch of a step as one process without parts draws it.

    It takes the place of `draw`. Within a step every act on the same photos gets the same numbers. Outside of one, as
    in the baselines, a call draws for the samples of all processes.

    Args:
        draw: gives (b, n) numbers for b samples and n layers.
        processes: those that share each batch. photos: of this process, in one act outside of a step.
    """

    def __init__(self, draw: Callable[[int, int], Tensor], processes: Processes = ALONE, photos: int = 1) -> None:
        self.draw, self.processes, self.photos = draw, processes, photos
        # Of each act of the whole batch: how many kinds of samples, photos or class images
        self._groups: list[int] = []
        self._drawn: list[Tensor] = []
        self._photos, self._parts, self._part, self._calls = 0, 0, 0, 0

    def begin(self, batch: Batch, parts: int) -> None:
        """A step begins, with the whole batch of this process, in so many micro-batches."""
        classes = batch.class_images
        together = classes is not None and classes.x_0.shape[1:] == batch.x_0.shape[1:]
        self._groups = [2] if together else [1] if classes is None else [1, 1]
        self._drawn, self._photos, self._parts = [], len(batch.x_0), parts
        self.at(0)

    def at(self, part: int) -> None:
        """The next acts are on this micro-batch, its photos first."""
        self._part, self._calls = part, 0

    def __call__(self, b: int, n: int) -> Tensor:
        """The numbers (b, n) of the samples at hand."""
        count, index = self.processes.count, self.processes.index
        if not self._parts:
            kinds = max(1, b // self.photos)  # with one process all photos come first, then all class images
            return self.draw(b * count, n).reshape(kinds, count, b // kinds, n)[:, index].reshape(b, n)
        kinds, size = self._groups[self._calls], self._photos // self._parts
        if self._calls == len(self._drawn):
            whole = self.draw(kinds * count * self._photos, n)
            self._drawn.append(whole.reshape(kinds, count, self._photos, n)[:, index])
        start = self._part * size
        mine = self._drawn[self._calls][: b // size, start : start + size]  # without class images for the critic
        self._calls += 1
        return mine.reshape(b, n)
