"""The denoising process as a decision process: state, action, next state (section 4.1 of the paper).

A state is (x_t, t, prompt); the action is the noise that the policy predicts there; what it foretells is Eq. 7.
Two transitions lead to the next state, Δ timesteps on:

- `reference`: the reference photo, noised to t-Δ. The next state does not depend on the action, so that of a return
  only the first reward does. The rest is a baseline to a critic that tells states apart.
- `policy`: the deterministic DDIM step with the action. All later rewards are consequences of it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lookforward.core.path import add_noise, look_forward, noise_between
from lookforward.core.protocols import Decode, Policy, RewardSum
from lookforward.core.types import Batch, State, Transition
from lookforward.errors import LookforwardError

TransitionKind = Literal["reference", "policy"]


@dataclass(frozen=True)
class Environment:
    """How one state leads to the next, and what a transition is worth.

    transition: see above. stride: Δ ≥ 1, timesteps that one decision takes. reward: better when higher.
    decode: latents to images, for rewards that look at them.
    """

    reward: RewardSum
    transition: TransitionKind = "reference"
    stride: int = 1
    decode: Decode | None = None

    def judge(self, transition: Transition) -> Tensor:
        """The reward of a transition, (b,)."""
        return self.reward.total(self.judge_parts(transition))

    def judge_parts(self, transition: Transition) -> dict[str, Tensor]:
        """Each part of the reward by name, (b,); an image is decoded, once, only where one of them looks at it.

        Raises:
            LookforwardError: the reward looks at images and there is nothing to decode them with.
        """
        if self.reward.needs_image and transition.image is None:
            if self.decode is None:
                raise LookforwardError(f"Reward {self.reward.name!r} looks at images, but there is no decoder.")
            transition = replace(transition, image=self.decode(transition.x_0_hat))
        return self.reward.parts(transition)

    def judge_told(self, transition: Transition, no_gradient: str = "") -> tuple[Tensor, dict[str, float]]:
        """The reward of a transition, (b,), and what to log of it: its mean, and of a sum each part's, unweighted.

        no_gradient: what an error says where a part gives no gradient; "" where none is needed.

        Raises:
            LookforwardError: a gradient is needed, and a part gives none.
        """
        parts = self.judge_parts(transition)
        for name, part in parts.items():
            if no_gradient and not part.requires_grad:
                raise LookforwardError(f"Reward {name!r} gives no gradient{no_gradient}")
        reward = self.reward.total(parts)
        terms = {"reward": reward.detach().mean().item()}
        if len(parts) > 1:
            terms |= {f"reward/{name}": part.detach().mean().item() for name, part in parts.items()}
        return reward, terms

    def advance(
        self, policy: Policy, now: Transition, generator: torch.Generator, strides: Tensor | None = None
    ) -> tuple[Transition, Tensor]:
        """The transition that follows, `strides` (b,) decisions on, one where not given; and which (b,) there are.

        A chain ends where t - Δ < 0: those rows are of timestep 0 and do not count. Under `policy` the chain goes
        in single steps only. Without gradient.
        """
        steps = self.stride * (torch.ones_like(now.state.timestep) if strides is None else strides)
        alive = now.state.timestep >= steps  # (b,)
        timestep = (now.state.timestep - steps).clamp(min=0)
        level = policy.schedule.level(timestep)
        with torch.no_grad():
            if self.transition == "reference":
                noise = torch.randn(now.x_0.shape, generator=generator).to(now.x_0.device)
                x_t = add_noise(now.x_0, noise, level)
            else:
                x_t = add_noise(now.x_0_hat, now.action, level)  # DDIM: both parts are the policy's own
                noise = noise_between(x_t, now.x_0, level)
            state = State(x_t, timestep, now.state.embedding)
            return act(policy, state, replace(now, noise=noise, image=None)), alive


def decide(policy: Policy, batch: Batch, embedding: Tensor) -> tuple[Transition, Transition | None]:
    """Walk to x_t (Eq. 6), ask the policy for its action (Eq. 2) and look forward from it (Eq. 7).

    embedding: (b, l, d), or (b + prior, l, d) with the prior images' prompts last. Reference photos and prior
    images share one forward pass. Returns their transitions, which carry the gradient; the second is None
    without prior images.

    Raises:
        LookforwardError: the action is not finite.
    """
    x_0, noise, timestep = batch.x_0, batch.noise, batch.timestep
    if batch.prior is not None:
        x_0, noise = torch.cat([x_0, batch.prior.x_0]), torch.cat([noise, batch.prior.noise])
        timestep = torch.cat([timestep, batch.prior.timestep])
    alpha_bar = policy.schedule.level(timestep)  # (b,)
    x_t = add_noise(x_0, noise, alpha_bar)  # Eq. 6
    b = len(batch.x_0)
    start = Transition(State(x_t, timestep, embedding), x_t, noise, x_0, x_t, alpha_bar)
    both = act(policy, start.state, start)
    first = replace(
        rows(both, slice(None, b)),
        prompts=batch.plain_prompts,
        photo=batch.photo,
        mask=batch.mask,
        subject=batch.subject,
    )
    return first, rows(both, slice(b, None)) if batch.prior is not None else None


def act(policy: Policy, state: State, start: Transition) -> Transition:
    """What the policy does in `state`, Eq. 2, and what that foretells, Eq. 7; all else as in `start`.

    Raises:
        LookforwardError: the action is not finite.
    """
    alpha_bar = policy.schedule.level(state.timestep)  # (b,)
    action = policy.act(state)  # ẑ_t, Eq. 2
    require_finite(action, "action", "lower learning_rate, or use precision fp32")
    x_0_hat = look_forward(state.x_t, action, alpha_bar)  # Eq. 7
    return replace(start, state=state, action=action, x_0_hat=x_0_hat, alpha_bar=alpha_bar)


def detached(transition: Transition) -> Transition:
    """The same transition without its gradient: what the critic learns from."""
    s = transition.state
    return replace(
        transition,
        state=State(s.x_t.detach(), s.timestep, s.embedding.detach()),
        action=transition.action.detach(),
        x_0_hat=transition.x_0_hat.detach(),
        image=None if transition.image is None else transition.image.detach(),
    )


def rows(transition: Transition, chosen: slice) -> Transition:
    """Some samples of a transition."""
    s = transition.state
    return Transition(
        State(s.x_t[chosen], s.timestep[chosen], s.embedding[chosen]),
        transition.action[chosen],
        transition.noise[chosen],
        transition.x_0[chosen],
        transition.x_0_hat[chosen],
        transition.alpha_bar[chosen],
        transition.prompts[chosen],
        *(
            None if x is None else x[chosen]
            for x in (transition.photo, transition.image, transition.mask, transition.subject)
        ),
    )


def require_finite(value: Tensor, name: str, remedy: str) -> None:
    """Stop before a NaN or an infinity reaches the weights."""
    if not bool(torch.isfinite(value).all()):
        raise LookforwardError(f"{name} is {value.detach().mean().item()}: nothing was updated; {remedy}.")
