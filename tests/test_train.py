"""The loop: what it draws, what it encodes, and how it stops."""

import pytest
import torch
from torch import Tensor

from errors import raises
from lookforward.algorithm.examples import PromptCache
from lookforward.algorithm.rates import RateSchedule
from lookforward.algorithm.trainer import Trainer, train
from lookforward.core.types import CachedLatents
from tiny import PATH, TinyPolicy, cached, references_of, seeded, tiny_trainer

PHOTO, CLASS = "a photo of sks dog", "a photo of dog"


def everything(trainer: Trainer) -> list[Tensor]:
    """All that a step may change, but for generators."""
    assert trainer.critic_updater is not None
    tensors = [*trainer.parameters.values(), *trainer.critic_updater.critic.parameters()]
    for state in trainer.optimizer.state_dict()["state"].values():
        tensors += state.values()
    return [tensor.detach().clone() for tensor in tensors]


def test_yields_the_steps_that_are_missing() -> None:
    trainer = tiny_trainer()
    assert [result.step for result in train(trainer, 3)] == [1, 2, 3]
    assert [result.step for result in train(trainer, 5)] == [4, 5]
    assert not list(train(trainer, 5))
    assert trainer.step == 5


@pytest.mark.parametrize("critic", ["none", "sgd"])
@pytest.mark.parametrize("prior", [True, False])
def test_terms(critic: str, prior: bool) -> None:
    (result,) = train(tiny_trainer(critic=critic, prior=prior), 1)
    expected = {"timestep", "noise_loss", "loss", "gradient"}
    expected |= {"prior_loss"} if prior else set()
    expected |= {"critic_loss", "q", "q_target", "reward", "value", "explained_variance"} if critic != "none" else set()
    assert set(result.terms) == expected
    assert all(type(term) is float for term in result.terms.values())
    assert result.seconds > 0


def test_a_seed_repeats_a_run() -> None:
    first, again, other = ([r.terms for r in train(tiny_trainer(seed), 3)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_global_generator_is_not_used() -> None:
    trainer = tiny_trainer()
    before = torch.get_rng_state()
    list(train(trainer, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_lowers_the_loss() -> None:
    losses = [result.terms["noise_loss"] for result in train(tiny_trainer(critic="none"), 150)]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_a_batch_holds_images_with_noise_and_timesteps() -> None:
    trainer = tiny_trainer()
    assert trainer.class_images is not None
    batches = [trainer.draw(trainer.references, trainer.generator) for _ in range(200)]
    classes = trainer.draw(trainer.class_images, trainer.generator)
    for batch in batches[:3]:
        assert (batch.prompts, classes.prompts) == ((PHOTO,) * 2, (CLASS,) * 2)
        assert batch.x_0.shape == batch.noise.shape == classes.x_0.shape == (2, 4, 8, 8)
        assert not torch.equal(batch.timestep, classes.timestep)
    timesteps = torch.cat([batch.timestep for batch in batches])
    assert timesteps.dtype == torch.int64
    assert 0 <= timesteps.min() < 20
    assert 980 < timesteps.max() < PATH.timesteps
    noise = torch.cat([batch.noise for batch in batches])
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02


def test_latents_are_drawn_anew_from_mean_and_deviation() -> None:
    latents = CachedLatents(torch.full((1, 4, 8, 8), 3.0), torch.full((1, 4, 8, 8), 2.0), 0.5)
    generator = seeded()
    first, second = (latents.sample(torch.zeros(400, dtype=torch.int64), generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(3.0 * 0.5, abs=0.02)
    assert first.std().item() == pytest.approx(2.0 * 0.5, abs=0.02)
    sure = cached(5, std=0.0)
    assert torch.equal(sure.sample(torch.tensor([2, 0]), generator), sure.mean[[2, 0]] * 0.5)
    trainer = tiny_trainer()
    x_0 = [trainer.draw(trainer.references, trainer.generator).x_0 for _ in range(4)]
    assert len({round(float(tensor.sum()), 6) for tensor in x_0}) == 4


def test_prompts_are_encoded_once_where_the_text_encoder_is_frozen() -> None:
    trainer = tiny_trainer(train_text_encoder=False)
    words = trainer.prompts((PHOTO, CLASS))
    list(train(trainer, 3))
    policy = trainer.policy
    assert isinstance(policy, TinyPolicy)
    assert policy.encoded == [(PHOTO, CLASS)]
    assert not words.tokens.requires_grad
    assert torch.equal(trainer.prompts((PHOTO, CLASS)).tokens, words.tokens)


def test_prompts_are_encoded_each_step_where_the_text_encoder_is_trained() -> None:
    trainer = tiny_trainer(train_text_encoder=True)
    before = trainer.parameters["letters.weight"].detach().clone()
    list(train(trainer, 3))
    policy = trainer.policy
    assert isinstance(policy, TinyPolicy)
    assert policy.encoded == [(PHOTO, CLASS)] * 3  # and equal prompts once
    assert not torch.equal(trainer.parameters["letters.weight"], before)


@pytest.mark.parametrize("trained", [True, False])
def test_prompts_come_in_the_order_of_the_prompts(trained: bool) -> None:
    policy = TinyPolicy()
    mixed = PromptCache(policy, trained)((PHOTO, CLASS, PHOTO))
    assert torch.equal(mixed.tokens, policy.encode_prompts([PHOTO, CLASS, PHOTO]).tokens)


def poisoned(trainer: Trainer, which: str) -> None:
    examples = references_of(trainer) if which == "references" else trainer.class_images
    assert examples is not None
    examples.latents.mean.fill_(float("nan"))


@pytest.mark.parametrize("which", ["references", "prior"])
def test_a_nan_stops_the_run_before_anything_is_updated(which: str) -> None:
    trainer = tiny_trainer()
    list(train(trainer, 2))
    poisoned(trainer, which)
    before = everything(trainer)
    with raises("not-finite", "Step 3", "action"):
        list(train(trainer, 4))
    assert trainer.step == 2
    assert all(torch.equal(a, b) for a, b in zip(before, everything(trainer), strict=True))


def shares(schedule: RateSchedule, steps: int) -> list[float]:
    return [schedule.share(step, steps) for step in range(steps)]


def test_rate_falls_over_the_last_share_of_the_steps() -> None:
    assert shares(RateSchedule(), 10) == [1.0] * 10
    assert shares(RateSchedule(decay=0.4), 10) == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25])
    assert shares(RateSchedule(decay=1.0), 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_rate_warms_up_and_falls_along_a_cosine() -> None:
    assert shares(RateSchedule(warmup=4), 6) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert shares(RateSchedule("cosine"), 4) == pytest.approx([1.0, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5])
    warmed = shares(RateSchedule("cosine", warmup=2), 6)
    assert warmed == pytest.approx([0.5, 1.0, *shares(RateSchedule("cosine"), 4)])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for share in shares(RateSchedule("cosine"), 20):  # an independent computation, torch's own
        assert annealed.get_last_lr() == pytest.approx([share], abs=1e-12)
        optimizer.step()
        annealed.step()


def test_rates_are_those_of_the_step_however_often_a_run_goes_on() -> None:
    def used(*stops: int) -> list[float]:
        trainer, rates = tiny_trainer(), []
        trainer.rates = RateSchedule(decay=0.5)
        inner = trainer.take_step
        trainer.take_step = lambda one: rates.append(one.optimizer.param_groups[0]["lr"]) or inner(one)
        for stop in stops:
            list(train(trainer, stop))
        return rates

    (rate,) = {group["lr"] for group in tiny_trainer().optimizer.param_groups}
    assert used(8) == pytest.approx([rate * share for share in (1, 1, 1, 1, 1, 0.75, 0.5, 0.25)])
    assert used(8, 16)[8:] == pytest.approx(
        [rate * share for share in (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)]
    )
