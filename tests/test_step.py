"""The algorithm itself: it reaches a known optimum, weighs as Eq. 11 says, and a NaN changes nothing."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from errors import raises
from lookforward.algorithm.environment import act_on
from lookforward.algorithm.examples import Examples, PromptCache
from lookforward.algorithm.returns import Target
from lookforward.algorithm.step import train_step
from lookforward.algorithm.trainer import CriticUpdater, Objective, Trainer
from lookforward.algorithm.updates import critic_step, update_policy
from lookforward.core.path import NoisePath, add_noise, rectified_flow
from lookforward.core.prediction import Prediction
from lookforward.core.types import Batch, CachedLatents, Conditioning, State, Transition
from lookforward.critics.residual import ResidualCritic
from lookforward.rewards.look_forward import LookForwardReward
from tiny import PATH, TinyPolicy, paying, random_transition, references_of, scaled, seeded

DREAMBOOTH = Objective(critic_weight=0.0, reconstruction_weight=1.0, prior_weight=1.0, discount=1.0)
RELEASED = Objective(critic_weight=1.0, reconstruction_weight=0.0, prior_weight=1.0, discount=0.9986)
LOOK_FORWARD = Objective(critic_weight=1.0, reconstruction_weight=1.0, prior_weight=1.0, discount=0.9986)
FLOW = rectified_flow(torch.arange(1, 1001) / 1000, density="uniform")


class PointPolicy(nn.Module):
    """Believes that every image is `guess`; the best denoiser of a world of one image x_0 believes in x_0."""

    path: NoisePath
    prediction: Prediction

    def __init__(self, shape: torch.Size, path: NoisePath = PATH, prediction: Prediction = Prediction.EPSILON) -> None:
        super().__init__()
        self.path, self.prediction = path, prediction
        self.guess = nn.Parameter(torch.zeros(shape))

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(torch.zeros(len(prompts), 1, 1))

    def act(self, state: State) -> Tensor:
        a, sigma = (level[:, None, None, None] for level in self.path.at(state.timestep))
        noise = (state.x_t - a * self.guess) / sigma
        return self.prediction.target(self.guess.expand_as(noise), noise, a.flatten(), sigma.flatten())


class LeafPolicy(PointPolicy):
    """Its action is a parameter, to read its gradient from."""

    def __init__(self, count: int) -> None:
        super().__init__(torch.Size((count, 4, 8, 8)))

    def act(self, state: State) -> Tensor:
        return self.guess * 1


def trainer_of(
    policy: Any, objective: Objective, critic: nn.Module | None = None, critic_steps: int = 0, **settings: Any
) -> Trainer:
    """Of one photo without noise in its latents; plain gradient descent of rate 1, without clipping."""
    parameters = dict(policy.named_parameters())
    x_0 = 2 * torch.rand(1, 4, 8, 8, generator=seeded()) - 1
    latents = CachedLatents(x_0, torch.zeros_like(x_0), 1.0)
    updater = None
    if critic is not None:
        learned = scaled(critic)
        updater = CriticUpdater(
            learned,
            torch.optim.SGD(critic.parameters(), lr=0.01),
            Target("one-step", 1.0),
            steps=critic_steps,
        )
    values: dict[str, Any] = {
        "take_step": train_step,
        "policy": policy,
        "parameters": parameters,
        "optimizer": torch.optim.SGD(parameters.values(), lr=1.0),
        "environment": paying(),
        "critic_updater": updater,
        "reward_gradient": False,
        "objective": objective,
        "references": Examples(latents, ("photo",)),
        "class_images": None,
        "prompts": PromptCache(policy, False),
        "batch_size": 2,
        "max_grad_norm": 1e9,
        "generator": seeded(1),
        "critic_generator": seeded(2),
        "adapter_generator": seeded(3),
    }
    return Trainer(**values | settings)


class MeanCritic(nn.Module):
    """Q is the mean of the action, times a weight: its gradient is known."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, transition: Transition) -> Tensor:
        return self.weight * transition.action.mean(dim=(1, 2, 3))


def batch_of(b: int, seed: int = 0, class_images: Batch | None = None) -> Batch:
    generator = seeded(seed)
    x_0, noise = (torch.randn(b, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.randint(1000, (b,), generator=generator)
    return Batch(x_0, noise, timestep, ("photo",) * b, class_images)


@pytest.mark.parametrize(
    ("objective", "within", "path", "prediction"),
    [
        (DREAMBOOTH, 0.01, PATH, Prediction.EPSILON),
        # the released critic's ReLU falls silent on residuals near zero, and then nothing pulls any more
        (RELEASED, 0.05, PATH, Prediction.EPSILON),
        (LOOK_FORWARD, 0.01, PATH, Prediction.EPSILON),
        (LOOK_FORWARD, 0.01, PATH, Prediction.V),
        (LOOK_FORWARD, 0.01, FLOW, Prediction.FLOW),
    ],
    ids=["dreambooth", "released", "look-forward", "v", "flow"],
)
def test_reaches_the_optimum(objective: Objective, within: float, path: NoisePath, prediction: Prediction) -> None:
    steps = 300
    policy = PointPolicy(torch.Size((1, 4, 8, 8)), path, prediction)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    critic = ResidualCritic(4, 8, 8, generator=seeded()) if objective.critic_weight else None
    trainer = trainer_of(
        policy, objective, critic, critic_steps=1, optimizer=optimizer, batch_size=4, max_grad_norm=1.0
    )
    for _ in range(steps):
        train_step(trainer)
        slower.step()
    assert (policy.guess - references_of(trainer).latents.mean).abs().mean().item() < within  # it began at 0.5


def stepper(module: nn.Module, rate: float, **settings: Any) -> Trainer:
    return trainer_of(module, DREAMBOOTH, optimizer=torch.optim.SGD(module.parameters(), lr=rate), **settings)


def test_parts_of_a_loss_are_one_step() -> None:
    layers = [torch.nn.Linear(3, 1) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer, parts in zip(layers, (False, True), strict=True):
        losses = [layer(torch.full((1, 3), float(i))).square().sum() for i in range(3)]
        norm = update_policy(stepper(layer, 0.1), losses if parts else torch.stack(losses).sum())
        assert norm > 0
    torch.testing.assert_close(layers[0].weight, layers[1].weight)
    before = layers[0].weight.detach().clone()
    bad = iter([layers[0].weight.sum(), layers[0].weight.sum() * torch.nan])
    with raises("not-finite", "loss", "nan"):
        update_policy(stepper(layers[0], 0.1), bad)
    assert torch.equal(before, layers[0].weight)


def test_each_sample_is_discounted_by_its_own_timestep() -> None:
    policy = LeafPolicy(2)
    objective = Objective(critic_weight=2.0, reconstruction_weight=0.0, prior_weight=0.0, discount=0.9986)
    trainer = trainer_of(policy, objective, MeanCritic())
    timesteps = trainer.references.draw(2, PATH, seeded(1)).timestep.tolist()  # as the step itself will draw them
    assert timesteps[0] != timesteps[1]
    before = policy.guess.detach().clone()
    metrics = train_step(trainer)
    values_per_sample = 4 * 8 * 8
    for row, t in enumerate(timesteps):
        expected = 2.0 * 0.9986**t / 2 / values_per_sample  # λ γ^t ∂Q/∂action, the mean over two samples
        torch.testing.assert_close((policy.guess - before)[row], torch.full((4, 8, 8), expected))
    q = before.mean(dim=(1, 2, 3)).tolist()
    value = sum(0.9986**t * one for t, one in zip(timesteps, q, strict=True)) / 2
    assert metrics["value"] == pytest.approx(value, abs=1e-6)
    assert metrics["loss"] == pytest.approx(-2.0 * metrics["value"])


def test_loss_is_that_of_equation_11_with_prior_preservation() -> None:
    policy = LeafPolicy(4)
    nn.init.normal_(policy.guess, generator=seeded(5))
    objective = Objective(critic_weight=0.7, reconstruction_weight=0.3, prior_weight=0.2, discount=0.99)
    trainer = trainer_of(policy, objective, MeanCritic())
    trainer.class_images = Examples(references_of(trainer).latents, ("class",))
    generator, action = seeded(1), policy.guess.detach().clone()
    photos, priors = (trainer.references.draw(2, PATH, generator) for _ in range(2))
    metrics = train_step(trainer)
    noise_loss, prior_loss = (
        (a - b.noise).square().mean() for a, b in zip(action.split(2), (photos, priors), strict=True)
    )
    value = (0.99**photos.timestep * action[:2].mean(dim=(1, 2, 3))).mean()
    assert metrics["noise_loss"] == pytest.approx(noise_loss.item())
    assert metrics["prior_loss"] == pytest.approx(prior_loss.item())
    assert metrics["value"] == pytest.approx(value.item(), abs=1e-6)
    assert metrics["loss"] == pytest.approx((0.3 * noise_loss + 0.2 * prior_loss - 0.7 * value).item())


def test_critic_moves_the_action_and_not_itself() -> None:
    policy, critic = LeafPolicy(2), MeanCritic()
    before = copy.deepcopy(critic.state_dict())
    assert train_step(trainer_of(policy, RELEASED, critic))["gradient"] > 0
    assert critic.state_dict() == before


def test_class_images_are_kept_apart_from_photos() -> None:
    policy = TinyPolicy()
    class_images = batch_of(3, seed=1)
    batch = batch_of(2, class_images=class_images)
    words = Conditioning(torch.randn(5, 8, 4, generator=seeded(2)))
    photos, classes = act_on(policy, batch, words)
    assert classes is not None
    for some, source, chosen in ((photos, batch, slice(None, 2)), (classes, class_images, slice(2, None))):
        signal, noise_level = PATH.at(source.timestep)
        x_t = add_noise(source.x_0, source.noise, signal, noise_level)
        assert torch.equal(some.x_0, source.x_0)
        assert torch.equal(some.target, source.noise)
        assert torch.equal(some.state.timestep, source.timestep)
        assert torch.equal(some.state.conditioning.tokens, words.tokens[chosen])
        assert torch.equal(some.signal, signal)
        assert torch.equal(some.noise_level, noise_level)
        assert torch.equal(some.state.x_t, x_t)
        torch.testing.assert_close(some.action, policy.act(State(x_t, source.timestep, words.rows(chosen))))
    alone, none = act_on(policy, batch_of(2), words.rows(slice(2)))
    assert none is None
    torch.testing.assert_close(alone.action, photos.action)


@pytest.mark.parametrize(("max_norm", "moved"), [(0.5, 0.5), (100.0, 5.0)])
def test_gradient_is_clipped_to_the_norm(max_norm: float, moved: float) -> None:
    layer = nn.ParameterList([nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))])
    norm = update_policy(stepper(layer, 1.0, max_grad_norm=max_norm), 3 * layer[0].sum() - 4 * layer[1].sum())
    assert norm == pytest.approx(5.0)
    assert torch.cat(list(layer)).norm().item() == pytest.approx(moved)


def stepped(critic: nn.Module) -> torch.optim.Optimizer:
    """An Adam with moments, to see that they stay."""
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    transition = random_transition(seeded(), 2)
    critic_step(updater(critic, optimizer), transition, LookForwardReward()(transition))
    return optimizer


def updater(critic: nn.Module, optimizer: torch.optim.Optimizer) -> CriticUpdater:
    return CriticUpdater(scaled(critic), optimizer, Target("one-step", 1.0))


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
    with raises("not-finite"):
        critic_step(updater(critic, optimizer), transition, LookForwardReward()(transition))
    assert_unchanged(before, frozen(critic, optimizer))


class SteepCritic(nn.Module):
    """Q is zero with an endless slope, so its loss is finite and its gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, transition: Transition) -> Tensor:
        return self.weight.sqrt() * transition.signal


def test_a_critic_gradient_that_is_not_finite_changes_nothing() -> None:
    critic = SteepCritic()
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.01)
    transition = random_transition(seeded(), 2)
    with raises("not-finite", "critic_gradient"):
        critic_step(updater(critic, optimizer), transition, LookForwardReward()(transition))
    assert critic.weight.item() == 0.0


@pytest.mark.parametrize(("loss_of", "name"), [(lambda w: w * float("nan"), "loss"), (torch.sqrt, "gradient")])
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing(loss_of: Callable[[Tensor], Tensor], name: str) -> None:
    layer = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    trainer = stepper(layer, 0.1)
    trainer.optimizer = optimizer
    update_policy(trainer, layer.weight.sum())
    with torch.no_grad():
        layer.weight.zero_()
    before = frozen(layer, optimizer)
    with raises("not-finite", f"{name} is"):
        update_policy(trainer, loss_of(layer.weight).sum())
    assert_unchanged(before, frozen(layer, optimizer))
