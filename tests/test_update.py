"""The algorithm itself: it reaches a known optimum, weighs as Eq. 11 says, and a NaN changes nothing."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from lookforward.algorithm.update import Objective, critic_step, policy_loss, policy_step
from torch import Tensor, nn

from lookforward.algorithm.environment import decide
from lookforward.core.path import Schedule, add_noise
from lookforward.core.types import Batch, State, Transition
from lookforward.critics.residual import ResidualCritic
from lookforward.errors import LookforwardError
from lookforward.rewards.look_forward import LookForwardReward
from tiny import SCHEDULE, TinyPolicy, random_transition, seeded, valued

DREAMBOOTH = Objective(critic_weight=0.0, noise_weight=1.0, prior_weight=1.0, discount=1.0)
RELEASED = Objective(critic_weight=1.0, noise_weight=0.0, prior_weight=1.0, discount=0.9986)
LOOK_FORWARD = Objective(critic_weight=1.0, noise_weight=1.0, prior_weight=1.0, discount=0.9986)


class PointPolicy(nn.Module):
    """Believes that every image is `guess`; the best denoiser of a world of one image x_0 believes in x_0."""

    schedule: Schedule

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.schedule = SCHEDULE
        self.guess = nn.Parameter(torch.zeros(shape))

    def embed(self, prompts: object) -> Tensor:
        raise AssertionError("its embedding is given")

    def act(self, state: State) -> Tensor:
        a = SCHEDULE.level(state.timestep)[:, None, None, None]
        return (state.x_t - a.sqrt() * self.guess) / (1 - a).sqrt()


class MeanCritic(nn.Module):
    """Q is the mean of the action, times a weight: its gradient is known."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, transition: Transition) -> Tensor:
        return self.weight * transition.action.mean(dim=(1, 2, 3))


def decision(timestep: tuple[int, ...]) -> Transition:
    """A transition whose action is a leaf, to read its gradient from."""
    transition = random_transition(seeded(), len(timestep))
    state = replace(transition.state, timestep=torch.tensor(timestep))
    return replace(transition, state=state, action=transition.action.requires_grad_(True))


def batch_of(b: int, seed: int = 0, prior: Batch | None = None) -> Batch:
    generator = seeded(seed)
    x_0, noise = (torch.randn(b, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.randint(1000, (b,), generator=generator)
    return Batch(x_0, noise, timestep, ("photo",) * b, prior)


@pytest.mark.parametrize(
    ("objective", "within"),
    # the released critic's ReLU falls silent on residuals near nought, and then nothing pulls any more
    [(DREAMBOOTH, 0.01), (RELEASED, 0.05), (LOOK_FORWARD, 0.01)],
    ids=["dreambooth", "released", "look-forward"],
)
def test_reaches_the_optimum(objective: Objective, within: float) -> None:
    generator = seeded()
    b, steps = 4, 300
    x_0 = 2 * torch.rand(1, 4, 8, 8, generator=generator) - 1
    policy = PointPolicy(x_0.shape)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    critic = ResidualCritic(4, 8, 8, generator=generator) if objective.critic_weight else None
    critic_optimizer = torch.optim.SGD(critic.parameters(), lr=0.01) if critic else None
    reward = LookForwardReward()
    for _ in range(steps):
        noise = torch.randn(b, 4, 8, 8, generator=generator)
        timestep = torch.randint(1000, (b,), generator=generator)
        batch = Batch(x_0.expand(b, -1, -1, -1), noise, timestep, ("photo",) * b)
        transition, prior = decide(policy, batch, torch.zeros(b, 1, 1))
        if critic is not None and critic_optimizer is not None:
            critic_step(valued(critic), critic_optimizer, transition, reward(transition).detach())
        loss, _ = policy_loss(transition, prior, critic(transition) if critic else None, objective)
        policy_step(optimizer, list(policy.parameters()), loss, max_norm=1.0)
        slower.step()
    assert (policy.guess - x_0).abs().mean().item() < within  # it began at 0.5


def test_parts_of_a_loss_are_one_step() -> None:
    layers = [torch.nn.Linear(3, 1) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, parts in zip(layers, (False, True), strict=True):
        losses = [layer(torch.full((1, 3), float(i))).square().sum() for i in range(3)]
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        norm = policy_step(optimizer, list(layer.parameters()), losses if parts else torch.stack(losses).sum(), 1e9)
        assert norm > 0
    torch.testing.assert_close(layers[0].weight, layers[1].weight)
    before = layers[0].weight.detach().clone()
    optimizer = torch.optim.SGD(layers[0].parameters(), lr=0.1)
    bad = iter([layers[0].weight.sum(), layers[0].weight.sum() * torch.nan])
    with pytest.raises(LookforwardError, match="loss is nan"):
        policy_step(optimizer, list(layers[0].parameters()), bad, 1.0)
    assert torch.equal(before, layers[0].weight)


def test_each_sample_is_discounted_by_its_own_timestep() -> None:
    transition = decision((3, 900))
    objective = Objective(critic_weight=2.0, noise_weight=0.0, prior_weight=0.0, discount=0.9986)
    loss, terms = policy_loss(transition, None, MeanCritic()(transition), objective)
    (gradient,) = torch.autograd.grad(loss, transition.action)
    values_per_sample = 4 * 8 * 8
    for row, t in enumerate((3, 900)):
        expected = -2.0 * 0.9986**t / 2 / values_per_sample  # -λ γ^t ∂Q/∂action, mean over two samples
        torch.testing.assert_close(gradient[row], torch.full_like(gradient[row], expected))
    q = transition.action.detach().mean(dim=(1, 2, 3)).tolist()
    assert terms["value"] == pytest.approx((0.9986**3 * q[0] + 0.9986**900 * q[1]) / 2, rel=1e-5)
    assert terms["loss"] == pytest.approx(-2.0 * terms["value"])


def test_loss_is_that_of_equation_11_with_prior_preservation() -> None:
    transition, prior = decision((10, 500)), random_transition(seeded(1), 2)
    objective = Objective(critic_weight=0.7, noise_weight=0.3, prior_weight=0.2, discount=0.99)
    loss, terms = policy_loss(transition, prior, MeanCritic()(transition), objective)
    noise_loss = ((transition.action - transition.noise) ** 2).mean().item()
    prior_loss = ((prior.action - prior.noise) ** 2).mean().item()
    assert terms["noise_loss"] == pytest.approx(noise_loss)
    assert terms["prior_loss"] == pytest.approx(prior_loss)
    assert loss.item() == pytest.approx(0.3 * noise_loss + 0.2 * prior_loss - 0.7 * terms["value"])


def test_critic_moves_the_action_and_not_itself() -> None:
    transition = decision((0,))
    critic = MeanCritic()
    before = copy.deepcopy(critic.state_dict())
    loss, _ = policy_loss(transition, None, critic(transition), replace(RELEASED, prior_weight=0.0))
    norm = policy_step(torch.optim.SGD([transition.action], lr=1.0), [transition.action], loss, max_norm=1e9)
    assert norm > 0
    assert critic.state_dict() == before


def test_prior_images_are_told_from_photos() -> None:
    policy = TinyPolicy()
    prior = batch_of(3, seed=1)
    batch = batch_of(2, prior=prior)
    embedding = torch.randn(5, 8, 4, generator=seeded(2))
    photos, priors = decide(policy, batch, embedding)
    assert priors is not None
    for some, source, words in ((photos, batch, embedding[:2]), (priors, prior, embedding[2:])):
        level = SCHEDULE.level(source.timestep)
        x_t = add_noise(source.x_0, source.noise, level)
        assert torch.equal(some.x_0, source.x_0)
        assert torch.equal(some.noise, source.noise)
        assert torch.equal(some.state.timestep, source.timestep)
        assert torch.equal(some.state.embedding, words)
        assert torch.equal(some.alpha_bar, level)
        assert torch.equal(some.state.x_t, x_t)
        torch.testing.assert_close(some.action, policy.act(State(x_t, source.timestep, words)))
    _, terms = policy_loss(photos, priors, None, DREAMBOOTH)
    assert terms["prior_loss"] == pytest.approx(((priors.action - prior.noise) ** 2).mean().item())
    alone, none = decide(policy, batch_of(2), embedding[:2])
    assert none is None
    torch.testing.assert_close(alone.action, photos.action)


@pytest.mark.parametrize(("max_norm", "moved"), [(0.5, 0.5), (100.0, 5.0)])
def test_gradient_is_clipped_to_the_norm(max_norm: float, moved: float) -> None:
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    loss = 3 * weights[0].sum() - 4 * weights[1].sum()
    norm = policy_step(torch.optim.SGD(weights, lr=1.0), list(weights), loss, max_norm)
    assert norm == pytest.approx(5.0)
    assert torch.cat(list(weights)).norm().item() == pytest.approx(moved)


def stepped(critic: nn.Module) -> torch.optim.Optimizer:
    """An Adam with moments, to see that they stay."""
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    transition = random_transition(seeded(), 2)
    critic_step(valued(critic), optimizer, transition, LookForwardReward()(transition))
    return optimizer


def frozen(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = dict(module.state_dict())
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{index}/{name}": value for name, value in state.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def assert_unchanged(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_critic_loss_that_is_not_finite_changes_nothing(bad: float) -> None:
    critic = ResidualCritic(4, 8, 8, generator=seeded())
    optimizer = stepped(critic)
    before = frozen(critic, optimizer)
    transition = random_transition(seeded(1), 2)
    transition = replace(transition, x_0_hat=torch.full_like(transition.x_0_hat, bad))
    with pytest.raises(LookforwardError, match=r"(q_target|critic_loss) is (-?inf|nan).*lower critic_"):
        critic_step(valued(critic), optimizer, transition, LookForwardReward()(transition))
    assert_unchanged(before, frozen(critic, optimizer))


class SteepCritic(nn.Module):
    """Q is nought with an endless slope, so its loss is finite and its gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, transition: Transition) -> Tensor:
        return self.weight.sqrt() * transition.alpha_bar


def test_a_critic_gradient_that_is_not_finite_changes_nothing() -> None:
    critic = SteepCritic()
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.01)
    transition = random_transition(seeded(), 2)
    with pytest.raises(LookforwardError, match=r"critic_gradient is (nan|inf)"):
        critic_step(valued(critic), optimizer, transition, LookForwardReward()(transition))
    assert critic.weight.item() == 0.0


@pytest.mark.parametrize(("loss_of", "name"), [(lambda w: w * float("nan"), "loss"), (torch.sqrt, "gradient")])
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing(loss_of: Callable[[Tensor], Tensor], name: str) -> None:
    layer = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    policy_step(optimizer, list(layer.parameters()), layer.weight.sum(), max_norm=1.0)
    with torch.no_grad():
        layer.weight.zero_()
    before = frozen(layer, optimizer)
    with pytest.raises(LookforwardError, match=rf"^{name} is (nan|inf).*lower learning_rate"):
        policy_step(optimizer, list(layer.parameters()), loss_of(layer.weight).sum(), max_norm=1.0)
    assert_unchanged(before, frozen(layer, optimizer))
