"""The sampling chain is diffusers' DDIM, its density is the Gaussian's, and its gradient stops where it is told to."""

import pytest
import torch
from diffusers import DDIMScheduler
from lookforward.baselines.chain import (
    Chain,
    arrive,
    deviation,
    draw_noise,
    guided,
    levels,
    log_probability,
    timesteps,
    walk,
)
from torch import Tensor

from lookforward.core.path import add_noise
from lookforward.core.types import Batch, State
from lookforward.errors import LookforwardError
from tiny import SCHEDULE, TinyPolicy, seeded

LIKE = torch.zeros(2, 4, 6, 6)


def scheduler(steps: int) -> DDIMScheduler:
    """Stable Diffusion's, as its pipeline folders have it."""
    made = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    made.set_timesteps(steps)
    return made


def prompted(policy: TinyPolicy) -> tuple[Tensor, Tensor]:
    return policy.embed(["a red dog", "a teapot"]).detach(), policy.embed([""]).detach()


@pytest.mark.parametrize("steps", [1, 7, 10, 50])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@torch.no_grad()
def test_the_chain_without_chance_is_diffusers(steps: int, guidance: float) -> None:
    policy, theirs = TinyPolicy(), scheduler(steps)
    embedding, empty = prompted(policy)
    ours = x = draw_noise(LIKE, seeded())
    for link in walk(policy, Chain(steps, guidance), ours, embedding, empty, seeded()):
        ours = link.x_next
    for t in theirs.timesteps:
        time = torch.full((2,), int(t))
        one, none = (policy.act(State(x, time, e)) for e in (embedding, empty.expand_as(embedding)))
        x = theirs.step(none + guidance * (one - none), int(t), x, eta=0.0).prev_sample
    assert timesteps(SCHEDULE, steps).tolist() == theirs.timesteps.tolist()
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_each_step_with_chance_is_diffusers() -> None:
    policy, theirs = TinyPolicy(), scheduler(10)
    embedding, empty = prompted(policy)
    generator, twin = seeded(3), seeded(3)
    for link in walk(policy, Chain(10, 1.0, 0.7), draw_noise(LIKE, seeded()), embedding, empty, generator):
        noise = torch.randn(LIKE.shape, generator=twin)
        t = int(link.state.timestep[0])
        wanted = theirs.step(link.action, t, link.state.x_t, eta=0.7, variance_noise=noise).prev_sample
        torch.testing.assert_close(link.x_next, wanted, rtol=1e-4, atol=1e-5)


def test_the_density_is_the_normal_one() -> None:
    x, mean = (torch.randn(3, 4, 5, 5, generator=seeded(i)) for i in (1, 2))
    sigma = torch.tensor([0.02, 0.5, 3.0])
    normal = torch.distributions.Normal(mean, sigma[:, None, None, None])
    torch.testing.assert_close(log_probability(x, mean, sigma), normal.log_prob(x).sum(dim=(1, 2, 3)))


def test_with_eta_1_the_last_step_has_a_density_too() -> None:
    level = levels(SCHEDULE, 50)
    sigma = deviation(level[:-1], level[1:], 1.0)
    assert level[-1] == SCHEDULE.alpha_bar[0]
    assert bool((sigma > 0.01).all())


def test_only_the_last_steps_carry_a_gradient() -> None:
    policy = TinyPolicy()
    embedding, _ = prompted(policy)
    links = list(walk(policy, Chain(5), draw_noise(LIKE, seeded()), embedding, None, seeded(), last=2))
    assert [link.x_next.requires_grad for link in links] == [False, False, False, True, True]
    with torch.no_grad():
        assert not any(
            link.x_next.requires_grad for link in walk(policy, Chain(5), LIKE, embedding, None, seeded(), last=2)
        )


def test_guidance_asks_once_for_both_and_needs_the_empty_prompt() -> None:
    policy = TinyPolicy()
    embedding, empty = prompted(policy)
    state = State(LIKE, torch.tensor([1, 2]), embedding)
    asked: list[int] = []

    def act(state: State) -> Tensor:
        asked.append(len(state.x_t))
        return policy.act(state)

    guided(act, state, empty, 7.5)
    guided(act, state, None, 1.0)
    assert asked == [4, 2]
    with pytest.raises(ValueError, match="empty prompt"):
        guided(act, state, None, 7.5)


def test_the_same_seed_draws_the_same_chain() -> None:
    policy = TinyPolicy()
    embedding, _ = prompted(policy)
    first, again = (
        [link.x_next for link in walk(policy, Chain(4, 1.0, 1.0), LIKE, embedding, None, seeded(5))] for _ in range(2)
    )
    assert torch.equal(torch.stack(first), torch.stack(again))


def test_rewards_see_where_the_chain_arrived() -> None:
    policy = TinyPolicy()
    embedding, _ = prompted(policy)
    x_0, photo = torch.randn(LIKE.shape, generator=seeded(8)), torch.rand(2, 3, 8, 8, generator=seeded(9))
    start = Batch(x_0, x_0, torch.tensor([3, 4]), ("a", "b"), plain_prompts=("c", "d"), photo=photo)
    *_, end = walk(policy, Chain(4), draw_noise(LIKE, seeded()), embedding, None, seeded())
    seen = arrive(policy, end, start)
    assert torch.equal(seen.x_0_hat, end.x_next)
    assert seen.prompts == ("c", "d")
    assert seen.photo is photo
    assert seen.image is None
    assert seen.state.timestep.tolist() == [1, 1]
    torch.testing.assert_close(add_noise(seen.x_0, seen.noise, seen.alpha_bar), seen.state.x_t)


@pytest.mark.parametrize("steps", [0, 1000])
def test_steps_that_the_schedule_lacks_are_named(steps: int) -> None:
    with pytest.raises(LookforwardError, match="chain_steps"):
        timesteps(SCHEDULE, steps)
