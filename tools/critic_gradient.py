"""Does the gradient of a critic that predicts a reward raise that reward? docs/history.md has the table.

python tools/critic_gradient.py [--transitions 1600] [--passes 9]

It collects transitions of Toybox's base model on one subject, trains a state-action critic on their rewards, moves
unseen actions along the critic's gradient, and computes the true reward before and after.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, mse_loss

from lookforward.algorithm.environment import act_on
from lookforward.algorithm.trainer import Trainer
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.core.prediction import Prediction
from lookforward.core.types import Transition
from lookforward.critics.scale import ReturnScale
from lookforward.critics.state_action import StateActionCritic
from lookforward.data.subject import load_subject
from lookforward.examples.rewards import is_bright, png_size
from lookforward_toybox.subjects import write_photos

BATCH = 16
MOVE = 0.1  # root mean square of the change of an action
Judge = Callable[[Transition], Tensor]
Collected = list[tuple[Transition, Tensor]]


class PartialCritic(nn.Module):
    """The state-action critic, shown x̂_0 alone or everything."""

    def __init__(self, everything: bool, width: int) -> None:
        super().__init__()
        self.everything = everything
        self.critic = StateActionCritic(4, width, generator=torch.Generator().manual_seed(0))

    def forward(self, t: Transition) -> Tensor:
        if not self.everything:
            state = replace(t.state, x_t=torch.zeros_like(t.state.x_t))
            t = replace(t, action=torch.zeros_like(t.action), state=state)
        return self.critic(t)


def take(t: Transition, action: Tensor) -> Transition:
    """The same state with another action."""
    x_0_hat = Prediction.EPSILON.x_0_hat(action, t.state.x_t, t.signal, t.noise_level)  # Toybox predicts noise
    return replace(t, action=action, x_0_hat=x_0_hat, image=None)


def explore(t: Transition, generator: torch.Generator) -> Transition:
    """An action with noise, fine or coarse, that moves x̂_0 by up to 0.3 a number whatever the timestep."""
    b = len(t.action)
    snr = (t.signal / t.noise_level).view(-1, 1, 1, 1)  # a/σ
    size = 0.3 * torch.rand(b, 1, 1, 1, generator=generator) * snr
    fine = torch.randn(t.action.shape, generator=generator)
    coarse = interpolate(avg_pool2d(fine, 4) * 4, scale_factor=4)
    is_fine = torch.rand(b, 1, 1, 1, generator=generator) < 0.5
    return take(t, t.action + size.clamp(max=1.0) * torch.where(is_fine, fine, coarse))


@torch.no_grad()
def collect(trainer: Trainer, judge: Judge, count: int, exploring: bool, generator: torch.Generator) -> Collected:
    """`count` transitions and their rewards, in batches."""
    collected = []
    for _ in range(count // BATCH):
        batch = trainer.references.draw(BATCH, trainer.policy.path, generator)
        now = act_on(trainer.policy, batch, trainer.prompts(batch.prompts))[0].detach()
        now = explore(now, generator) if exploring else now
        collected.append((now, judge(now)))
    return collected


def fit(critic: nn.Module, scale: ReturnScale, collected: Collected, passes: int) -> None:
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    for _ in range(passes):
        for t, reward in collected:
            optimizer.zero_grad()
            mse_loss(critic(t), scale.normalise(reward, t.state.timestep)).backward()
            optimizer.step()


def moved(critic: nn.Module, t: Transition) -> Transition:
    """Each action a small step up the critic."""
    action = t.action.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(take(t, action)).sum(), action)
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-9).view(-1, 1, 1, 1)
    return take(t, t.action + MOVE * t.action[0].numel() ** 0.5 * gradient / length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=1600)
    parser.add_argument("--passes", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_photos("backpack-0", Path(folder))
        subject = load_subject(Path(folder), class_noun="backpack", resolution=64)
    trainer = build(
        load_settings("dreambooth", {"subject.class_noun": "backpack", "objective.reward": "ssim"}), subject
    ).trainer
    decode = trainer.environment.decode
    assert decode is not None
    generator = torch.Generator().manual_seed(5)
    for function in (png_size, is_bright):

        @torch.no_grad()
        def judge(t: Transition) -> Tensor:
            return torch.tensor([float(x) for x in function(decode(t.x_0_hat), ())])  # noqa: B023

        unseen = collect(trainer, judge, max(BATCH, options.transitions // 5), False, generator)
        for exploring in (False, True):
            seen = collect(trainer, judge, options.transitions, exploring, generator)
            scale = ReturnScale(1000, 20)
            for t, reward in seen:
                scale.observe(reward, t.state.timestep)
            for everything in (True, False):
                critic = PartialCritic(everything, seen[0][0].state.conditioning.tokens.shape[-1])
                fit(critic, scale, seen, options.passes)
                wanted = torch.cat([scale.normalise(reward, t.state.timestep) for t, reward in unseen])
                with torch.no_grad():
                    predicted = torch.cat([critic(t) for t, _ in unseen])
                gains = torch.cat([judge(moved(critic, t)) - reward for t, reward in unseen])
                print(
                    f"{function.__name__:10} {'sees all' if everything else 'sees x_0':9} "
                    f"{'exploring' if exploring else 'on policy':10} "
                    f"explained variance {1 - (wanted - predicted).var() / wanted.var():+.2f}  "
                    f"change {gains.mean():+.3f} ± {2 * gains.std() / len(gains) ** 0.5:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
