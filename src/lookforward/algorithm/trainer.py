"""The training loop: a generator that yields what each step did; the caller logs, shows and saves."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lookforward.algorithm.before_step import BeforeStep, fewer_rows
from lookforward.algorithm.environment import Environment
from lookforward.algorithm.examples import Buckets, Examples, PromptCache
from lookforward.algorithm.micro_batches import StepDropout
from lookforward.algorithm.processes import Processes
from lookforward.algorithm.rates import RateSchedule
from lookforward.algorithm.returns import Target
from lookforward.algorithm.weights import Averages, Untouched, swapped
from lookforward.core.path import like
from lookforward.core.protocols import Policy
from lookforward.core.sharding import is_sharded, whole
from lookforward.core.types import Batch, StepResult, Transition
from lookforward.critics.value import ScaledCritic
from lookforward.errors import LookforwardError, is_out_of_memory, out_of_memory, warn

MOST_GROWTH = 1000.0  # of the norm of the trained weights, beyond which a training has diverged


@dataclass(frozen=True)
class Objective:
    """What the policy maximises: λ γ^t Q - w_ε ‖o - target‖² - w_prior ‖o - target‖² on class images (Eq. 11).

    critic_weight: λ; 0 is DreamBooth. reconstruction_weight: w_ε, of Eq. 1; 1 in the paper, 0 in the released code.
    prior_weight: w_prior, of prior preservation.
    discount: γ in (0, 1], by which Q, or the reward itself, counts γ^t at timestep t, each sample by its own t: the
        released code's. 1 if the returns themselves are discounted, as in the paper.
    min_snr: γ of min-SNR weighting, of both losses, not of Q; 0 is none.
    dco: β of DCO, whose loss takes the place of the reconstruction loss; 0 is none.
    preference: β of RPO, whose loss takes the place of that on class images; 0 is none.
    """

    critic_weight: float
    reconstruction_weight: float
    prior_weight: float
    discount: float
    min_snr: float = 0.0
    dco: float = 0.0
    preference: float = 0.0


@dataclass(frozen=True)
class CriticUpdater:
    """How the critic learns.

    critic, optimizer: what learns. target: what it learns. max_norm: its gradient is clipped to this.
    steps: of the critic for one of the policy; each after the first has a batch of its own. 0 leaves the critic as
        it began, for an ablation.
    warmup: steps in which the critic learns and the policy does not follow it.
    every: the critic learns in every so many steps only, if its reward is expensive.
    """

    critic: ScaledCritic
    optimizer: torch.optim.Optimizer
    target: Target
    max_norm: float = 1.0
    steps: int = 1
    warmup: int = 0
    every: int = 1


@dataclass
class Trainer:
    """All that a run changes: `runs.checkpoint` writes it down and puts it back.

    take_step: one step, from the trainer to its metrics: `step.train_step`, or that of a baseline.
    parameters: what is trained, by name. critic_updater: None if no critic is trained. reward_gradient: whether the
    policy follows the reward's own gradient instead of a critic's. generator, critic_generator, adapter_generator:
    the only sources of random numbers, on the CPU, so that a run can be repeated and resumed exactly; critic and
    adapter have their own, so that the same seed shows every recipe the same photos, noise and timesteps.
    rates: the learning rate over the run. averages: of the trained weights, which samples and exports use.
    untouched: the policy before training, whose output takes the place of class images. reference: the same policy,
    where DCO or RPO compare with it (`algorithm.comparison`).
    accumulate: micro-batches that `batch_size` photos are cut into, equal ones, of which one at a time is in memory.
    auto_batch: whether a step that runs out of memory is taken again in smaller micro-batches. smaller: where that
    happened, from the step to the number of micro-batches since. fused: whether weights are updated within the backward
    pass. dropout: of a learned word that has it.
    step: how many steps are done.
    """

    take_step: Callable[["Trainer"], dict[str, float]]
    policy: Policy
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    environment: Environment
    critic_updater: CriticUpdater | None
    reward_gradient: bool
    objective: Objective
    references: Examples | Buckets
    class_images: Examples | None
    prompts: PromptCache
    batch_size: int
    max_grad_norm: float
    generator: torch.Generator
    critic_generator: torch.Generator
    adapter_generator: torch.Generator
    rates: RateSchedule = RateSchedule()  # noqa: RUF009
    averages: Averages | None = None
    untouched: Untouched | None = None
    reference: Untouched | None = None
    accumulate: int = 1
    auto_batch: bool = False
    smaller: dict[int, int] = field(default_factory=dict)
    fused: bool = False
    dropout: StepDropout | None = None
    step: int = 0

    def __post_init__(self) -> None:
        self._largest_norm = MOST_GROWTH * max(self._weight_norm(), 1.0)

    def require_sound_weights(self) -> None:
        """Raise LookforwardError if a trained weight is not finite, or their norm is beyond MOST_GROWTH of its start.

        A start below 1, as of an adapter that begins at zero, counts as 1.
        """
        norm = self._weight_norm()
        if not norm <= self._largest_norm:  # nan too
            raise LookforwardError(
                f"the norm of the trained weights is {norm:.3g}, beyond {self._largest_norm:.3g}: the training "
                "diverged. Nothing of this step is saved. Start another run with a lower learning_rate.",
                code="diverged",
            )

    @torch.no_grad()
    def _weight_norm(self) -> float:
        weights = [p.detach() for p in self.parameters.values()]
        if any(map(is_sharded, weights)):
            return whole(torch.nn.utils.get_total_norm(weights)).item()
        norms = torch._foreach_norm(weights)
        return torch.stack([norm.to(norms[0].device) for norm in norms]).double().norm().item() if norms else 0.0

    def draw(self, examples: Examples | Buckets, generator: torch.Generator, count: int | None = None) -> Batch:
        """Photos or class images at random, with noise and timesteps: of `count` the share of this process."""
        return self.processes.share(examples.draw(count or self.batch_size, self.policy.path, generator))

    @property
    def processes(self) -> Processes:
        """Those that share each batch of this run."""
        return self.environment.processes

    def draw_class(self, photos: Batch) -> Batch | None:
        """What a step remembers the class by: class images; or the photos' own states, prompted by the class."""
        if self.untouched is not None:
            return replace(photos, prompts=photos.plain_prompts)
        return None if self.class_images is None else self.draw(self.class_images, self.generator)

    def error(self, transition: Transition) -> Tensor:
        """‖o - target‖² of Eq. 1, the mean: masked, and weighted by min-SNR if that is asked for."""
        return self._squared_error(transition).mean()

    def errors(self, transition: Transition) -> Tensor:
        """The same of each sample: (b,)."""
        return self._squared_error(transition).mean(dim=(1, 2, 3))

    def _squared_error(self, transition: Transition) -> Tensor:
        error = transition.masked((transition.action - transition.target) ** 2)  # (b, c, h, w)
        if self.objective.min_snr:
            levels = transition.signal, transition.noise_level
            error = like(self.policy.prediction.min_snr_weight(*levels, self.objective.min_snr), error) * error
        return error

    def averaged(self) -> AbstractContextManager[None]:
        """The policy with its averaged weights while the context lasts; as it is, if there are none."""
        return nullcontext() if self.averages is None else swapped(self.parameters, self.averages.values)


def take_step_in_memory(trainer: Trainer) -> dict[str, float]:
    """`trainer.take_step`; where it runs out of memory, again in smaller micro-batches if `auto_batch` asks for it.

    Raises:
        LookforwardError: memory is used up (code "out-of-memory"), and the micro-batch cannot be made smaller.
    """
    known = [parts for step, parts in trainer.smaller.items() if step <= trainer.step + 1]  # of a run that is resumed
    trainer.accumulate = max(trainer.accumulate, *known, 1)
    while True:
        before = BeforeStep(trainer) if trainer.auto_batch else None
        try:
            return trainer.take_step(trainer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # which hold the activations
            rows = trainer.batch_size // trainer.processes.count // trainer.accumulate
            parts = fewer_rows(rows)
            if before is None or parts is None:
                raise out_of_memory(f"with {rows} {'photo' if rows == 1 else 'photos'} at once", error) from None
            reason = str(error).strip().splitlines() or [type(error).__name__]
        before.restore()
        trainer.accumulate *= parts
        trainer.smaller[trainer.step + 1] = trainer.accumulate
        warn(
            f"Step {trainer.step + 1} ran out of memory ({reason[0].rstrip('.')}). It is taken again with "
            f"{rows // parts} of {trainer.batch_size} photos at once, and so are those after it (--auto-batch): the "
            "result is the same."
        )


def train(trainer: Trainer, steps: int) -> Iterator[StepResult]:
    """Take the steps that are missing up to `steps`, yielding what each one did.

    Raises:
        LookforwardError: an action, a loss or a gradient is not finite, or a reward fails, or memory is used up (code
            "out-of-memory"); it names the step, and that step left the policy as it was.
    """
    for group in trainer.optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # what a scheduler that begins at a later step asks for
    scheduler = LambdaLR(trainer.optimizer, lambda step: trainer.rates.share(step, steps), last_epoch=trainer.step - 1)
    while trainer.step < steps:
        started = time.perf_counter()
        try:
            metrics = trainer.processes.mean(take_step_in_memory(trainer))
            trainer.require_sound_weights()
        except LookforwardError as error:
            raise LookforwardError(f"Step {trainer.step + 1}: {error}", code=error.code) from error
        trainer.step += 1
        scheduler.step()
        if trainer.averages is not None:
            trainer.averages.update(trainer.step)
        yield StepResult(trainer.step, metrics, time.perf_counter() - started)
