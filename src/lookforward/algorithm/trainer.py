"""The training loop: a generator that yields what each step did; the caller logs, shows and saves."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lookforward.algorithm.environment import Environment, decide, detached
from lookforward.algorithm.examples import Embeddings, Examples
from lookforward.algorithm.returns import Target, bootstrap, monte_carlo
from lookforward.algorithm.update import Objective, critic_step, policy_loss, policy_step, reward_worth
from lookforward.baselines.chain import Act
from lookforward.baselines.dpok import Dpok, dpok_losses
from lookforward.baselines.draft import Draft, draft_loss
from lookforward.core.protocols import Policy
from lookforward.core.types import Batch, StepResult, Transition
from lookforward.critics.value import ValueFunction
from lookforward.errors import LookforwardError


@dataclass(frozen=True)
class Critique:
    """How the critic learns.

    value, optimizer: what learns. target: what of. max_norm: its gradient is clipped to this.
    steps: of the critic for one of the policy; each after the first has a batch of its own. 0 leaves the critic as
        it began, to compare with.
    warmup: steps in which the critic learns and the policy does not listen to it.
    every: the critic learns in every so many steps only, where its reward is dear.
    """

    value: ValueFunction
    optimizer: torch.optim.Optimizer
    target: Target
    max_norm: float = 1.0
    steps: int = 1
    warmup: int = 0
    every: int = 1


@dataclass(frozen=True)
class Comparison:
    """Another method in the place of Algorithm 1: it draws images and follows their reward.

    method: its settings. images: drawn in a step. reference_act: the untouched policy's action.
    """

    method: Draft | Dpok
    images: int
    reference_act: Act


@dataclass
class Trainer:
    """All that a run changes: `checkpoint.py` writes it down and puts it back.

    parameters: what is trained, by name. critique: None where nothing is learned of the reward. direct: whether the
    policy follows the reward's own gradient instead of a critic's. generator, critic_generator, adapter_generator:
    the only sources of chance, on the CPU, so that a run can be repeated and resumed exactly; critic and adapter have
    their own, so that the same seed shows every recipe the same photos, noise and timesteps. comparison: another
    method than Algorithm 1. rate_decay: the share of a run's steps, its last ones, over which the rates that the
    optimizer was made with fall to nothing. step: how many steps are done.
    """

    policy: Policy
    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    environment: Environment
    critique: Critique | None
    direct: bool
    objective: Objective
    references: Examples
    prior: Examples | None
    embeddings: Embeddings
    batch: int
    max_grad_norm: float
    generator: torch.Generator
    critic_generator: torch.Generator
    adapter_generator: torch.Generator
    comparison: Comparison | None = None
    rate_decay: float = 0.0
    step: int = 0


def train(trainer: Trainer, steps: int) -> Iterator[StepResult]:
    """Take the steps that are missing up to `steps`, yielding what each one did.

    Raises:
        LookforwardError: an action, a loss or a gradient is not finite, or a reward fails; it names the step, and
            that step left the policy as it was.
    """
    while trainer.step < steps:
        started = time.perf_counter()
        set_rate(trainer.optimizer, rate_share(trainer.step, steps, trainer.rate_decay))
        try:
            comparison = trainer.comparison
            terms = train_step(trainer) if comparison is None else comparison_step(trainer, comparison)
        except LookforwardError as error:
            raise LookforwardError(f"Step {trainer.step + 1}: {error}") from error
        trainer.step += 1
        yield StepResult(trainer.step, terms, time.perf_counter() - started)


def rate_share(step: int, steps: int, decay: float) -> float:
    """What is left of the learning rate at `step` of `steps`, in (0, 1]: 1, then down a straight line.

    A function of the step alone, so that a run which goes on after a stop has the rates of one that never stopped.
    """
    return 1.0 if decay == 0 else min(1.0, (steps - step) / (decay * steps))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Let the optimizer step with a share of the rates that it was made with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * share


def train_step(trainer: Trainer) -> dict[str, float]:
    """Algorithm 1, once: a batch, a decision, a step of the critic, a step of the policy."""
    batch = draw_batch(trainer)
    prompts = batch.prompts + (batch.prior.prompts if batch.prior is not None else ())
    transition, prior = decide(trainer.policy, batch, trainer.embeddings(prompts))
    terms: dict[str, float] = {"timestep": batch.timestep.float().mean().item()}
    worth: Tensor | None = None
    critique = trainer.critique
    if critique is not None:
        if trainer.step % critique.every == 0:
            terms |= teach(trainer, critique, transition)
        if trainer.step >= critique.warmup:
            worth = critique.value(transition)
    elif trainer.direct:
        worth, told = reward_worth(trainer.environment, transition)
        terms |= told
    loss, losses = policy_loss(transition, prior, worth, trainer.objective)
    norm = policy_step(trainer.optimizer, list(trainer.parameters.values()), loss, trainer.max_grad_norm)
    return terms | losses | {"gradient": norm}


def comparison_step(trainer: Trainer, comparison: Comparison) -> dict[str, float]:
    """One step of DRaFT or DPOK, with prior preservation; returns what was logged of its last update."""
    generator, method = trainer.critic_generator, comparison.method
    start = _draw(trainer, trainer.references, trainer.generator, comparison.images)
    words = trainer.embeddings(start.prompts)
    empty = None if method.chain.guidance == 1 else trainer.embeddings(("",))
    policy, environment = trainer.policy, trainer.environment
    match method:
        case Draft():
            updates = iter([iter([draft_loss(policy, environment, start, method, words, empty, generator)])])
        case Dpok():
            untouched = comparison.reference_act
            updates = dpok_losses(policy, environment, start, method, words, empty, untouched, generator)
    terms: dict[str, float] = {}
    for parts in updates:
        terms = {}
        losses = _with_prior(trainer, parts, terms)
        parameters: list[Tensor] = list(trainer.parameters.values())
        terms["gradient"] = policy_step(trainer.optimizer, parameters, losses, trainer.max_grad_norm)
    return terms


def _with_prior(
    trainer: Trainer, parts: Iterable[tuple[Tensor, dict[str, float]]], terms: dict[str, float]
) -> Iterator[Tensor]:
    """The parts of a loss, to the first of which prior preservation is added; what they log is summed up in `terms`."""
    for i, (loss, told) in enumerate(parts):
        logged = dict(told)
        if i == 0 and trainer.prior is not None:
            batch = _draw(trainer, trainer.prior, trainer.generator)
            prior, _ = decide(trainer.policy, batch, trainer.embeddings(batch.prompts))
            prior_loss = ((prior.action - prior.noise) ** 2).mean()
            loss = loss + trainer.objective.prior_weight * prior_loss
            logged |= {"prior_loss": prior_loss.item(), "loss": loss.item()}
        for name, value in logged.items():
            terms[name] = terms.get(name, 0.0) + value
        yield loss


def teach(trainer: Trainer, critique: Critique, transition: Transition) -> dict[str, float]:
    """The critic's steps on this transition and on further ones; returns what was logged of this one."""
    now = detached(transition)
    reward, terms = trainer.environment.judge_told(now)
    for i in range(critique.steps):
        if i > 0:
            batch = _draw(trainer, trainer.references, trainer.critic_generator)
            with torch.no_grad():
                now = detached(decide(trainer.policy, batch, trainer.embeddings(batch.prompts))[0])
                reward = trainer.environment.judge(now)
        q_target = find_return(trainer, critique, now, reward)
        learned = critic_step(critique.value, critique.optimizer, now, q_target, critique.max_norm)
        terms |= learned if i == 0 else {}
    return terms


def find_return(trainer: Trainer, critique: Critique, now: Transition, reward: Tensor) -> Tensor:
    """What the critic is to foretell of a transition that earned `reward` (b,): (b,)."""
    target, environment, policy = critique.target, trainer.environment, trainer.policy
    chance = trainer.critic_generator
    match target.kind:
        case "one-step":
            return reward
        case "monte-carlo":
            return monte_carlo(environment, policy, now, reward, target, chance)
        case "bootstrap":
            return bootstrap(environment, policy, now, reward, target, critique.value.slow_return, chance)


def draw_batch(trainer: Trainer) -> Batch:
    """Lines 3 and 4 of Algorithm 1: photos, noise and timesteps by chance, and as many prior images."""
    batch = _draw(trainer, trainer.references, trainer.generator)
    if trainer.prior is None:
        return batch
    return replace(batch, prior=_draw(trainer, trainer.prior, trainer.generator))


def _draw(trainer: Trainer, examples: Examples, generator: torch.Generator, count: int | None = None) -> Batch:
    return examples.draw(count or trainer.batch, trainer.policy.schedule.timesteps, generator)
