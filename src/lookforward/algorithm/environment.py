"""Denoising as a decision process: state, action, next state (section 4.1 of the paper).

A state is (x_t, t, prompt); the action is the model's output there; from both follows x̂_0 (Eq. 7). Two transitions
lead to the next state, Δ timesteps on:

- `reference`: the reference photo, noised to t-Δ. The next state does not depend on the action, so that of a return
  only the first reward does. The rest is a baseline to a critic that sees the state.
- `policy`: the deterministic DDIM step with the action. All later rewards are consequences of it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lookforward.algorithm.processes import ALONE, Processes
from lookforward.algorithm.readings import Metrics
from lookforward.core.path import add_noise, noise_between
from lookforward.core.protocols import Decode, Policy, RewardSum
from lookforward.core.types import Batch, Conditioning, State, Transition
from lookforward.errors import LookforwardError

TransitionKind = Literal["reference", "policy"]


@dataclass(frozen=True)
class Environment:
    """How one state leads to the next, and what a transition is rewarded with.

    transition: see above. stride: Δ ≥ 1, timesteps from a state to the next. rewards: better when higher.
    decode: latents to images, for rewards that look at them. processes: those that share each batch.
    """

    rewards: RewardSum
    transition: TransitionKind = "reference"
    stride: int = 1
    decode: Decode | None = None
    processes: Processes = ALONE

    def reward(self, transition: Transition) -> Tensor:
        """The reward of a transition, (b,)."""
        return self.rewards.total(self.reward_terms(transition))

    def reward_terms(self, transition: Transition) -> dict[str, Tensor]:
        """Each term of the reward by name, (b,); the image is decoded once, and only if one of them looks at it.

        Raises:
            LookforwardError: the reward looks at images and there is nothing to decode them with.
        """
        if self.rewards.needs_image and transition.image is None:
            if self.decode is None:
                raise LookforwardError(
                    f"Reward {self.rewards.name!r} looks at images, but there is no decoder.", code="decoder-missing"
                )
            transition = replace(transition, image=self.decode(transition.x_0_hat))
        return self.rewards.parts(transition)

    def reward_with_metrics(self, transition: Transition, remedy: str = "") -> tuple[Tensor, Metrics]:
        """The reward of a transition, (b,), and metrics: its mean and, of a sum, each term's, unweighted.

        remedy: set where the reward must give a gradient; how the error goes on if a term gives none.

        Raises:
            LookforwardError: a gradient is needed, and a term gives none.
        """
        terms = self.reward_terms(transition)
        for name, term in terms.items():
            if remedy and not term.requires_grad:
                raise LookforwardError(f"Reward {name!r} gives no gradient{remedy}", code="reward-no-gradient")
        reward = self.rewards.total(terms)
        metrics: Metrics = {"reward": reward.detach().mean()}
        if len(terms) > 1:
            metrics |= {f"reward/{name}": term.detach().mean() for name, term in terms.items()}
        return reward, metrics

    def next_transition(
        self, policy: Policy, now: Transition, generator: torch.Generator, strides: Tensor | None = None
    ) -> tuple[Transition, Tensor]:
        """The transition `strides` (b,) states on, by default one; and which (b,) there are. Without gradient.

        A trajectory ends where t - Δ < 0: those rows are of timestep 0 and do not count. Under `policy` it goes on
        in single steps only.
        """
        steps = self.stride * (torch.ones_like(now.state.timestep) if strides is None else strides)
        alive = now.state.timestep >= steps  # (b,)
        timestep = (now.state.timestep - steps).clamp(min=0)
        signal, noise_level = policy.path.of(now.x_0).at(timestep)
        with torch.no_grad():
            if self.transition == "reference":
                noise = self.processes.sample(torch.randn, *now.x_0.shape, generator=generator).to(now.x_0.device)
                x_t = add_noise(now.x_0, noise, signal, noise_level)
            else:  # DDIM: both parts are the policy's own
                believed = policy.prediction.noise(now.action, now.state.x_t, now.signal, now.noise_level)
                x_t = add_noise(now.x_0_hat, believed, signal, noise_level)
                noise = noise_between(x_t, now.x_0, signal, noise_level)
            later = act(policy, State(x_t, timestep, now.state.conditioning), now.x_0, noise)
            about = {name: getattr(now, name) for name in ("prompts", "photo", "mask", "subject")}
            return replace(later, **about), alive


def act_on(policy: Policy, batch: Batch, conditioning: Conditioning) -> tuple[Transition, Transition | None]:
    """Noise a batch (Eq. 6) and let the policy act there: the transitions of its photos and of its class images.

    conditioning: of the photos' prompts, then of the class images'; all share one forward pass if they are of one
    shape. Both transitions carry the gradient; the second is None without class images.

    Raises:
        LookforwardError: the action is not finite.
    """
    x_0, noise, timestep, sizes = batch.x_0, batch.noise, batch.timestep, batch.sizes
    if batch.class_images is not None and batch.class_images.x_0.shape[1:] != x_0.shape[1:]:  # photos in buckets
        photos, _ = act_on(policy, replace(batch, class_images=None), conditioning.rows(slice(None, len(x_0))))
        return photos, act_on(policy, batch.class_images, conditioning.rows(slice(len(x_0), None)))[0]
    if batch.class_images is not None:
        x_0, noise = torch.cat([x_0, batch.class_images.x_0]), torch.cat([noise, batch.class_images.noise])
        timestep = torch.cat([timestep, batch.class_images.timestep])
        if sizes is not None and batch.class_images.sizes is not None:
            sizes = torch.cat([sizes, batch.class_images.sizes])
    x_t = add_noise(x_0, noise, *policy.path.of(x_0).at(timestep))  # Eq. 6
    conditioning = conditioning.shown(sizes)
    both, b = act(policy, State(x_t, timestep, conditioning), x_0, noise), len(batch.x_0)
    photos = replace(
        both.rows(slice(None, b)),
        prompts=batch.plain_prompts,
        photo=batch.photo,
        mask=batch.mask,
        subject=batch.subject,
    )
    return photos, both.rows(slice(b, None)) if batch.class_images is not None else None


def act(policy: Policy, state: State, x_0: Tensor, noise: Tensor) -> Transition:
    """The policy's action in a state (Eq. 2), its target (Eq. 1), and where it leads (Eq. 7).

    Raises:
        LookforwardError: the action is not finite.
    """
    signal, noise_level = policy.path.of(x_0).at(state.timestep)  # a_t, σ_t: (b,)
    action = policy.act(state)  # o, Eq. 2
    require_finite(action, "action", "lower learning_rate, or use precision fp32")
    target = policy.prediction.target(x_0, noise, signal, noise_level)  # Eq. 1
    x_0_hat = policy.prediction.x_0_hat(action, state.x_t, signal, noise_level)  # Eq. 7
    return Transition(state, action, target, noise, x_0, x_0_hat, signal, noise_level)


def require_finite(value: Tensor, name: str, remedy: str) -> None:
    """Stop before a NaN or an infinity reaches the weights."""
    if not bool(torch.isfinite(value).all()):
        raise LookforwardError(
            f"{name} is {value.detach().mean().item()}: nothing was updated; {remedy}.", code="not-finite"
        )
