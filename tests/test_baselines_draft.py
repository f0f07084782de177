"""DRaFT: its gradient is the reward's through the trajectory, K cuts it, and more noises make it steadier."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from errors import raises
from lookforward.algorithm.environment import Environment
from lookforward.algorithm.readings import Metrics
from lookforward.baselines import draft
from lookforward.baselines.draft import Draft
from lookforward.baselines.sampler import Sampler, SamplingInputs, draw_noise
from lookforward.core.types import Batch, Conditioning, Transition
from lookforward.rewards.look_forward import LookForwardReward
from tiny import TinyPolicy, paying, seeded


class Written:
    """A reward from a function of the end."""

    needs_image = False

    def __init__(self, of: Callable[[Transition], Tensor], name: str = "written") -> None:
        self.of, self.name = of, name

    def __call__(self, transition: Transition) -> Tensor:
        return self.of(transition)


def batch(count: int = 2, size: int = 6) -> Batch:
    x_0 = torch.randn(count, 4, size, size, generator=seeded(8))
    unused = torch.full_like(x_0, torch.nan)
    return Batch(x_0, unused, torch.zeros(count, dtype=torch.int64), ("",) * count, plain_prompts=("a",) * count)


def draft_loss(
    policy: TinyPolicy,
    environment: Environment,
    start: Batch,
    settings: Draft,
    words: Conditioning,
    empty: Conditioning | None,
    generator: torch.Generator,
) -> tuple[Tensor, Metrics]:
    ((part,),) = settings.losses(SamplingInputs(policy, environment, start, words, empty, generator))
    return part


def loss_of(policy: TinyPolicy, settings: Draft, environment: Environment | None = None, seed: int = 0) -> Tensor:
    start = batch()
    words, empty = policy.encode_prompts(["a red dog", "a teapot"]), policy.encode_prompts([""])
    return draft_loss(policy, environment or paying(), start, settings, words, empty, seeded(seed))[0]


def gradient_of(policy: TinyPolicy, settings: Draft, environment: Environment | None = None, seed: int = 0) -> Tensor:
    found = torch.autograd.grad(loss_of(policy, settings, environment, seed), list(policy.unet.parameters()))
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_gradient_is_that_of_finite_differences(guidance: float) -> None:
    policy, settings = TinyPolicy(), Draft(Sampler(4, guidance), last=4)
    gradient = gradient_of(policy, settings)
    direction = torch.randn(gradient.shape, generator=seeded(4))
    direction /= direction.norm()
    weights = torch.nn.utils.parameters_to_vector(policy.unet.parameters()).detach()
    values = []
    for sign in (1, -1):
        torch.nn.utils.vector_to_parameters(weights + sign * 1e-2 * direction, policy.unet.parameters())
        values.append(loss_of(policy, settings).item())
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(float(gradient @ direction), rel=0.02)


def test_k_cuts_the_gradient_and_not_the_reward() -> None:
    policy = TinyPolicy()
    settings = [Draft(Sampler(4), last=k) for k in (1, 2, 4)]
    losses = [loss_of(policy, each) for each in settings]
    gradients = [gradient_of(policy, each) for each in settings]
    assert [loss.item() for loss in losses] == pytest.approx([losses[0].item()] * 3)
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.allclose(gradients[1], gradients[2])


def test_only_k_actions_are_differentiated() -> None:
    policy = TinyPolicy()
    kept: list[bool] = []
    policy.unet.register_forward_hook(lambda _, __, out: kept.append(out.requires_grad))
    loss_of(policy, Draft(Sampler(5), last=2))
    loss_of(policy, Draft(Sampler(5), noises=3))
    assert kept == [False] * 3 + [True] * 2 + [False] * 5 + [True]


def test_the_reward_is_that_of_the_last_latents() -> None:
    policy, seen = TinyPolicy(), []
    reward = Written(lambda t: seen.append(t) or t.x_0_hat.mean(dim=(1, 2, 3)))
    loss = loss_of(policy, Draft(Sampler(3)), paying(reward))
    assert loss.item() == pytest.approx(-seen[0].x_0_hat.mean().item())
    assert seen[0].state.timestep.tolist() == [1, 1]


def test_more_noises_have_the_same_mean_and_less_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, settings = TinyPolicy(), {noises: Draft(Sampler(1), noises=noises) for noises in (1, 8)}
    words = policy.encode_prompts(["a red dog", "a teapot"]).detach()
    begun = torch.randn(batch().x_0.shape, generator=seeded(6))

    def gradient(noises: int, seed: int) -> Tensor:
        calls = iter([lambda *_: begun, draw_noise])  # the trajectory begins at the same noise, the copies do not
        monkeypatch.setattr(draft, "draw_noise", lambda *given: next(calls)(*given))
        loss, _ = draft_loss(policy, paying(), batch(), settings[noises], words, None, seeded(seed))
        return torch.autograd.grad(loss, policy.unet.weight)[0].flatten()

    one, eight = (torch.stack([gradient(noises, 1000 * noises + seed) for seed in range(200)]) for noises in (1, 8))
    error = (one.var(dim=0) / 200 + eight.var(dim=0) / 200).sqrt()
    assert float(((one.mean(dim=0) - eight.mean(dim=0)) / error).abs().mean()) < 1.3  # 0.8 where the means are equal
    assert float(eight.var(dim=0).sum() / one.var(dim=0).sum()) == pytest.approx(1 / 8, rel=0.3)


def test_noised_copies_are_compared_with_their_own_reference() -> None:
    policy, seen = TinyPolicy(), []
    start = replace(batch(), photo=torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 3, 4, 4), plain_prompts=("a", "b"))

    def judge(transition: Transition) -> Tensor:
        seen.append(transition)
        return LookForwardReward()(transition)

    words = policy.encode_prompts(["a red dog", "a teapot"])
    draft_loss(policy, paying(Written(judge)), start, Draft(Sampler(3), noises=2), words, None, seeded())
    (transition,) = seen
    assert transition.prompts == ("a", "a", "b", "b")
    assert transition.photo[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert torch.equal(transition.x_0, start.x_0[[0, 0, 1, 1]])
    assert torch.equal(transition.state.conditioning.tokens, words.tokens[[0, 0, 1, 1]])
    near = (transition.x_0_hat[0] - transition.x_0_hat[1]).abs().mean()
    far = (transition.x_0_hat[1] - transition.x_0_hat[2]).abs().mean()
    assert 0 < near < far / 3  # two copies of one image, and two images


def test_descent_raises_the_reward() -> None:
    policy, start = TinyPolicy(), batch()
    words = policy.encode_prompts(["a red dog", "a teapot"]).detach()
    optimizer = torch.optim.Adam(policy.unet.parameters(), lr=0.01)
    rewards = []
    for step in range(60):
        loss, terms = draft_loss(policy, paying(), start, Draft(Sampler(4), last=2), words, None, seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(terms["reward"])
    assert sum(rewards[-10:]) / 10 > 0.7 * sum(rewards[:10]) / 10  # both are negative


def test_parts_are_logged_where_there_are_several() -> None:
    policy = TinyPolicy()
    mean = Written(lambda t: t.x_0_hat.mean(dim=(1, 2, 3)), "mean")
    words = policy.encode_prompts(["a", "b"])
    for rewards, names in [((mean,), set()), ((mean, LookForwardReward()), {"reward/mean", "reward/look-forward"})]:
        _, terms = draft_loss(policy, paying(*rewards), batch(), Draft(Sampler(2)), words, None, seeded())
        assert set(terms) == {"reward", "loss"} | names


def test_a_reward_without_gradient_is_named_with_the_remedy() -> None:
    blind = Written(lambda t: t.x_0_hat.detach().mean(dim=(1, 2, 3)), "blind")
    with raises("reward-no-gradient", "'blind'", "baseline.name = dpok"):
        loss_of(TinyPolicy(), Draft(Sampler(2)), paying(LookForwardReward(), blind))


def test_latents_that_are_not_finite_stop_the_step() -> None:
    policy = TinyPolicy()
    assert policy.unet.bias is not None
    torch.nn.init.constant_(policy.unet.bias, torch.nan)
    with raises("not-finite", "x_0"):
        loss_of(policy, Draft(Sampler(2)))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"last": 0}, "draft_last"),
        ({"last": 5}, "draft_last"),
        ({"noises": -1}, "draft_noises"),
        ({"last": 2, "noises": 2}, "draft_last"),
        ({"sampler": Sampler(4, eta=1.0)}, "eta"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = {"sampler": Sampler(4)} | settings
    with raises("draft-settings", named):
        Draft(**given)
