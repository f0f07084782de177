"""What the critic learns: the return of a transition, from its one reward to the sum of all that follow.

    return(s_t, o) = Σ_j γ^(jΔ) r_(t-jΔ),  j = 0, 1, … while t - jΔ ≥ 0        (Eq. 4)

Δ is the environment's stride. Three targets, from the least to the most far-sighted:
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lookforward.algorithm.environment import Environment
from lookforward.core.protocols import Policy
from lookforward.core.types import Transition
from lookforward.critics.value import ScaledCritic

TargetKind = Literal["one-step", "monte-carlo", "bootstrap"]


@dataclass(frozen=True)
class Target:
    """kind: one-step (r_t, as the released code), monte-carlo (Eq. 4) or bootstrap (Eq. 9).

    discount: γ in (0, 1], for one timestep. samples: K, how many of the later rewards monte-carlo looks at.
    """

    kind: TargetKind
    discount: float
    samples: int = 4


def compute_target(
    target: Target,
    environment: Environment,
    policy: Policy,
    now: Transition,
    reward: Tensor,
    critic: ScaledCritic,
    generator: torch.Generator,
) -> Tensor:
    """What the critic should predict for the transition `now`, whose reward is `reward` (b,): (b,)."""
    match target.kind:
        case "one-step":
            return reward
        case "monte-carlo":
            return monte_carlo(environment, policy, now, reward, target, generator)
        case "bootstrap":
            return bootstrap(environment, policy, now, reward, target, critic, generator)


def monte_carlo(
    environment: Environment,
    policy: Policy,
    now: Transition,
    reward: Tensor,
    target: Target,
    generator: torch.Generator,
) -> Tensor:
    """Eq. 4, (b,): `reward`, r_t of the transition `now`, as it is; the n rewards after it by K stratified samples.

    The later rewards, in order, are cut into K equal parts and one is drawn from each, counting n / K: in the mean
    that is the full sum, for any K. Under `reference` a state is reached at once, which costs K actions; under `policy`
    the trajectory is followed from state to state, and only the rewards are spared.
    """
    total = reward
    n = now.state.timestep // environment.stride  # (b,) later states
    k = torch.arange(target.samples).unsqueeze(1)  # (K, 1)
    u = environment.processes.sample(torch.rand, target.samples, len(n), generator=generator, dim=1)
    # The place 1 … n of the reward drawn from part k; n where rounding would leave the last part
    place = ((k + u) / target.samples * n.cpu()).floor().long().clamp(max=(n.cpu() - 1).clamp(min=0)) + 1
    place, weight = place.to(n.device), n / target.samples  # (K, b), (b,)
    gamma = target.discount**environment.stride
    if environment.transition == "reference":
        for places in place:
            later, alive = environment.next_transition(policy, now, generator, places)
            total = total + torch.where(alive, weight * gamma**places * environment.reward(later), 0.0)
        return total
    for j in range(1, environment.processes.most(int(n.max())) + 1):
        now, alive = environment.next_transition(policy, now, generator)
        hits = ((place == j) & alive).sum(dim=0)  # (b,): of a short trajectory one place may be drawn more than once
        if bool(hits.any()):
            total = total + torch.where(hits > 0, hits * weight * gamma**j * environment.reward(now), 0.0)
    return total


def bootstrap(
    environment: Environment,
    policy: Policy,
    now: Transition,
    reward: Tensor,
    target: Target,
    critic: ScaledCritic,
    generator: torch.Generator,
) -> Tensor:
    """Eq. 9, (b,): r_t + γ^Δ Q'(s_(t-Δ), π(s_(t-Δ))), and `reward`, r_t, alone where the trajectory ends.

    Q' is the target network of the critic, in units of the reward.
    """
    later, alive = environment.next_transition(policy, now, generator)
    with torch.no_grad():
        future = target.discount**environment.stride * critic.target_return(later)
    return reward + torch.where(alive, future, 0.0)
