"""The state before a step, to take the step again in smaller micro-batches if it runs out of memory."""

import copy
import gc
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lookforward.algorithm.trainer import Trainer


def fewer_rows(rows: int) -> int | None:
    """Into how many equal parts a micro-batch is cut next: the fewest that at least halve it; None for one row."""
    return next((parts for parts in range(2, rows + 1) if rows % parts == 0), None)


class BeforeStep:
    """What a step changes before the policy's own update: random streams, and the critic that learns first."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer, updater = trainer, trainer.critic_updater
        generators = (trainer.generator, trainer.critic_generator, trainer.adapter_generator)
        self._streams = [(generator, generator.get_state()) for generator in generators]
        learned = (updater.critic, updater.optimizer) if updater else ()
        self._states = [(one, copy.deepcopy(one.state_dict())) for one in learned]

    def restore(self) -> None:
        """Put it back, and free what the failed step allocated."""
        for generator, state in self._streams:
            generator.set_state(state)
        for one, state in self._states:
            one.load_state_dict(state)
        self.trainer.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
