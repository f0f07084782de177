"""The training loop: a generator that yields what each step did; the caller logs, shows and saves."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lookforward.errors import LookforwardError
from lookforward.latents import CachedLatents
from lookforward.protocols import Policy, Reward
from lookforward.records import Batch, StepResult
from lookforward.update import Objective, critic_step, decide, policy_loss, policy_step


@dataclass(frozen=True)
class Examples:
    """Latents of one kind of image, and the prompt that all of them share."""

    latents: CachedLatents
    prompt: str


class Embeddings:
    """Encoded prompts: kept where the text encoder is frozen, made anew each step where it is trained."""

    def __init__(self, policy: Policy, trained: bool) -> None:
        self.policy, self.trained = policy, trained
        self._kept: dict[str, Tensor] = {}

    def __call__(self, prompts: tuple[str, ...]) -> Tensor:
        """(b, l, d). Equal prompts are encoded once."""
        distinct = list(dict.fromkeys(prompts))
        if self.trained:
            made = dict(zip(distinct, self.policy.embed(distinct), strict=True))
        else:
            missing = [p for p in distinct if p not in self._kept]
            if missing:
                with torch.no_grad():
                    self._kept |= dict(zip(missing, self.policy.embed(missing), strict=True))
            made = self._kept
        return torch.stack([made[p] for p in prompts])


@dataclass
class Trainer:
    """All that a run changes: `checkpoint.py` writes it down and puts it back.

    parameters: what is trained, by name. generator: the only source of chance, on the CPU, so that a run can
    be repeated and resumed exactly. step: how many steps are done.
    """

    policy: Policy
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    critic: nn.Module | None  # answers to protocols.Critic
    critic_optimizer: torch.optim.Optimizer | None
    reward: Reward
    objective: Objective
    references: Examples
    prior: Examples | None
    embeddings: Embeddings
    batch: int
    max_grad_norm: float
    critic_max_grad_norm: float
    generator: torch.Generator
    step: int = 0


def train(trainer: Trainer, steps: int) -> Iterator[StepResult]:
    """Take the steps that are missing up to `steps`, yielding what each one did.

    Raises:
        LookforwardError: an action, a loss or a gradient is not finite; it names the step, and that step
            left the policy as it was.
    """
    while trainer.step < steps:
        started = time.perf_counter()
        try:
            terms = train_step(trainer)
        except LookforwardError as error:
            raise LookforwardError(f"Step {trainer.step + 1}: {error}") from error
        trainer.step += 1
        yield StepResult(trainer.step, terms, time.perf_counter() - started)


def train_step(trainer: Trainer) -> dict[str, float]:
    """Algorithm 1, once: a batch, a decision, a step of the critic, a step of the policy."""
    batch = draw_batch(trainer)
    prompts = batch.prompts + (batch.prior.prompts if batch.prior is not None else ())
    transition, prior = decide(trainer.policy, batch, trainer.embeddings(prompts))
    terms: dict[str, float] = {"timestep": batch.timestep.float().mean().item()}
    if trainer.critic is not None and trainer.critic_optimizer is not None:
        terms |= critic_step(
            trainer.critic, trainer.critic_optimizer, trainer.reward, transition, trainer.critic_max_grad_norm
        )
    loss, losses = policy_loss(transition, prior, trainer.critic, trainer.objective)
    norm = policy_step(trainer.optimizer, list(trainer.parameters.values()), loss, trainer.max_grad_norm)
    return terms | losses | {"gradient": norm}


def draw_batch(trainer: Trainer) -> Batch:
    """Lines 3 and 4 of Algorithm 1: photos, noise and timesteps by chance, and as many prior images."""
    batch = _draw(trainer, trainer.references)
    if trainer.prior is None:
        return batch
    return Batch(batch.x_0, batch.noise, batch.timestep, batch.prompts, _draw(trainer, trainer.prior))


def _draw(trainer: Trainer, examples: Examples) -> Batch:
    b, generator = trainer.batch, trainer.generator
    index = torch.randint(len(examples.latents), (b,), generator=generator)
    x_0 = examples.latents.sample(index, generator)
    noise = torch.randn(x_0.shape, generator=generator).to(x_0.device)
    timestep = torch.randint(trainer.policy.schedule.timesteps, (b,), generator=generator)
    return Batch(x_0, noise, timestep.to(x_0.device), (examples.prompt,) * b)
