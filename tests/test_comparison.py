"""DCO and RPO: losses by hand, their gradients, what they train, and resuming to the bit."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import make_pipeline
from errors import raises
from lookforward.algorithm.comparison import gain
from lookforward.algorithm.examples import Examples
from lookforward.algorithm.trainer import Objective, Trainer, train
from lookforward.algorithm.updates import act_with_prompts
from lookforward.algorithm.weights import Untouched
from lookforward.assembly import build
from lookforward.assembly.evaluators import encoder_sources
from lookforward.assembly.preference import harmonic_reward, preferences
from lookforward.benchmark.optimised import optimised_scores
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.core.path import add_noise
from lookforward.core.types import Batch, State
from lookforward.data.subject import load_subject
from lookforward.models.encoders import Encoders
from lookforward.models.encoders.similarity import PromptSimilarity, Similarity
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import PATH, TinyPolicy, cached, references_of, seeded, tiny_trainer
from tiny_rewards import pictures
from tiny_sd3 import make_sd3

DRAWN = "a photo of sks dog on the moon"
LABELS = torch.tensor([0.2, 0.5, 0.9])


def comparing(*, dco: float = 0.0, preference: float = 0.0, labels: Tensor = LABELS, **more: Any) -> Trainer:
    """A trainer whose policy has moved away from the untouched one, which is `TinyPolicy()`."""
    trainer = tiny_trainer(critic="none", prior=False, **more)
    trainer.objective = Objective(0.0, 1.0, 0.7, 1.0, dco=dco, preference=preference)
    trainer.reference = Untouched(trainer.policy, trainer.parameters)
    if preference:
        trainer.class_images = Examples(cached(2), (DRAWN,) * 3, preferred=labels)
    with torch.no_grad():
        for i, parameter in enumerate(trainer.parameters.values()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=seeded(50 + i))
    return trainer


def drawn_batch(trainer: Trainer) -> Batch:
    """What the next step draws, without drawing it."""
    state = trainer.generator.get_state()
    batch = trainer.draw(trainer.references, trainer.generator)
    batch = replace(batch, class_images=trainer.draw_class(batch))
    trainer.generator.set_state(state)
    return batch


def errors_of(policy: Any, batch: Batch, prompts: tuple[str, ...]) -> list[float]:
    """mean (o - z)² of each sample, written down anew."""
    x_t = add_noise(batch.x_0, batch.noise, *PATH.at(batch.timestep))
    with torch.no_grad():
        missed = policy.act(State(x_t, batch.timestep, policy.encode_prompts(prompts))) - batch.noise
    return [one.square().mean().item() for one in missed]


def test_dcos_loss_is_that_of_its_paper() -> None:
    trainer = comparing(dco=30.0)
    batch = drawn_batch(trainer)
    now = errors_of(trainer.policy, batch, batch.prompts)
    before = errors_of(TinyPolicy(), batch, batch.plain_prompts)
    expected = [math.log1p(math.exp(30.0 * (a - b))) for a, b in zip(now, before, strict=True)]
    (result,) = train(trainer, 1)
    assert max(abs(30.0 * (a - b)) for a, b in zip(now, before, strict=True)) > 0.1  # else the loss is log 2 anyway
    assert result.terms["loss"] == pytest.approx(sum(expected) / 2, abs=1e-5)
    assert result.terms["noise_loss"] == pytest.approx(sum(now) / 2, abs=1e-5)
    assert result.terms["gain"] == pytest.approx((sum(before) - sum(now)) / 2, abs=1e-5)


def test_rpos_loss_is_that_of_its_paper() -> None:
    trainer = comparing(preference=20.0)
    batch = drawn_batch(trainer)
    drawn = batch.class_images
    assert drawn is not None
    assert drawn.preferred is not None
    gains = [
        [b - a for a, b in zip(errors_of(trainer.policy, some, some.prompts),
                               errors_of(TinyPolicy(), some, some.prompts), strict=True)]
        for some in (batch, drawn)
    ]  # fmt: skip
    expected = 0.0
    for own, other, p in zip(*gains, drawn.preferred.tolist(), strict=True):
        likely = 1 / (1 + math.exp(-20.0 * (own - other)))
        expected -= (p * math.log(likely) + (1 - p) * math.log(1 - likely)) / 2
    similar = sum(errors_of(trainer.policy, batch, batch.prompts)) / 2
    (result,) = train(trainer, 1)
    assert result.terms["preference_loss"] == pytest.approx(expected, abs=1e-5)
    assert result.terms["loss"] == pytest.approx(similar + 0.7 * expected, abs=1e-5)
    assert result.terms["drawn_gain"] == pytest.approx(sum(gains[1]) / 2, abs=1e-5)


def test_dcos_gradient_is_the_reconstructions_weighed_by_what_is_left_to_gain() -> None:
    trainer = comparing(dco=30.0)
    transition, _ = act_with_prompts(trainer, drawn_batch(trainer))
    parameters = list(trainer.parameters.values())
    errors, gained = trainer.errors(transition), gain(trainer, transition)
    loss = -torch.nn.functional.logsigmoid(30.0 * gained).mean()
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    weight = 30.0 * torch.sigmoid(-30.0 * gained.detach())
    wanted = torch.autograd.grad((weight * errors).mean(), parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [{"dco": 30.0}, {"preference": 20.0}])
def test_micro_batches_sum_to_the_batch(kind: Any) -> None:
    whole, parts = comparing(**kind), comparing(**kind)
    parts.accumulate = 2
    ((one,), (other,)) = train(whole, 1), train(parts, 1)
    assert other.terms == pytest.approx(one.terms, rel=1e-4)
    for name, parameter in whole.parameters.items():
        torch.testing.assert_close(parts.parameters[name], parameter, rtol=1e-4, atol=1e-6)


def of_fixed(trainer: Trainer, value: Callable[[Any, Any], float]) -> float:
    """A number of the transitions of photos and drawn images that no step draws."""
    batch = trainer.draw(trainer.references, seeded(9), 32)
    classes = trainer.class_images
    batch = replace(batch, class_images=None if classes is None else trainer.draw(classes, seeded(8), 32))
    with torch.no_grad():
        return value(*act_with_prompts(trainer, batch))


def test_training_by_dco_gains_on_the_untouched_model_and_stays_nearer_to_it() -> None:
    def trained(dco: float) -> Trainer:
        trainer = tiny_trainer(critic="none", prior=False)
        trainer.objective = Objective(0.0, 1.0, 1.0, 1.0, dco=dco)
        trainer.reference = Untouched(trainer.policy, trainer.parameters)
        list(train(trainer, 80))
        return trainer

    def moved(trainer: Trainer) -> float:
        return of_fixed(trainer, lambda photos, _: (photos.action - photos.known).square().mean().item())

    consistent, plain = trained(1000.0), trained(0.0)
    assert of_fixed(consistent, lambda photos, _: gain(consistent, photos).mean().item()) > 0.05
    assert moved(consistent) < moved(plain)


@pytest.mark.parametrize(("label", "sign"), [(1.0, 1), (0.0, -1)])
def test_training_by_rpo_follows_the_label(label: float, sign: int) -> None:
    trainer = comparing(preference=20.0, labels=torch.full((3,), label), train_text_encoder=False)
    trainer.objective = replace(trainer.objective, reconstruction_weight=0.0)

    def preferred() -> float:
        return of_fixed(trainer, lambda own, drawn: (gain(trainer, own) - gain(trainer, drawn)).mean().item())

    before = preferred()
    list(train(trainer, 40))
    assert sign * (preferred() - before) > 0.02


def test_the_harmonic_reward_is_low_where_either_part_is() -> None:
    identity, prompt = torch.tensor([0.6, 0.9, -1.0]), torch.tensor([0.2, 0.2, 0.2])
    expected = 1 / (0.3 / 0.8 + 0.7 / 0.6)
    assert harmonic_reward(identity, prompt, 0.3)[0].item() == pytest.approx(expected, abs=1e-5)
    assert harmonic_reward(identity, prompt, 0.3)[2] < 1e-6
    torch.testing.assert_close(harmonic_reward(identity, prompt, 0.0), torch.full((3,), 0.6))
    torch.testing.assert_close(harmonic_reward(identity, prompt, 1.0)[:2], torch.tensor([0.8, 0.95]))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_labels_are_bradley_terrys_of_photo_and_drawn_image(weight: float) -> None:
    settings = load_settings("rpo", {"subject.class_noun": "dog", "objective.preference_identity": weight})
    photos, images, prompts = pictures(2, 64), pictures(3, 64, seed=5), ["a photo of a dog", "a dog", "a dog"]
    encoders = Encoders(encoder_sources("toybox"))
    text, like = PromptSimilarity(encoders.clip), Similarity(encoders.dino, photos)
    found = preferences(settings, photos, images, prompts)
    for j, prompt in enumerate(prompts):
        own, drawn = ([1 / (weight / ((i + 1) / 2) + (1 - weight) / ((t + 1) / 2))
                       for i, t in zip(like(some).tolist(), text(some, [prompt] * len(some)).tolist(), strict=True)]
                      for some in (photos, images[j : j + 1]))  # fmt: skip
        margin = sum(own) / len(own) - drawn[0]
        assert found[j].item() == pytest.approx(1 / (1 + math.exp(-margin)), abs=1e-5)


def short(recipe: str, **more: Any) -> Settings:
    return load_settings(
        recipe,
        {"subject.class_noun": "teapot", "data.class_image_steps": 1, "objective.preference_images": 1,
         "evaluation.every": 0, "run.steps": 3, **more},
    )  # fmt: skip


@pytest.mark.parametrize("make", [make_pipeline, make_sd3])
@pytest.mark.parametrize("recipe", ["dco", "rpo", "dreambooth-output"])
def test_a_resumed_run_is_the_uninterrupted_one(recipe: str, make: Any, photos: Path, tmp_path: Path) -> None:
    subject = load_subject(photos, class_noun="teapot", resolution=64)

    def fresh() -> Trainer:
        return build(short(recipe), subject, make()).trainer

    straight, first, second = fresh(), fresh(), fresh()
    terms = [r.terms for r in train(straight, 3)]
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    assert load_newest(second, tmp_path)
    assert [r.terms for r in train(second, 3)] == terms[2:]
    assert all(torch.equal(p, second.parameters[n]) for n, p in straight.parameters.items())
    if recipe == "dco":  # it begins as the untouched model, but for the words of the prompt
        assert terms[0]["loss"] == pytest.approx(-math.log(1 / (1 + math.exp(-1000 * terms[0]["gain"]))), rel=1e-4)
    if recipe == "rpo":
        assert (terms[0]["gain"], terms[0]["drawn_gain"]) == pytest.approx((0, 0), abs=1e-6)
        assert terms[0]["preference_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_rpo_draws_images_of_prompts_that_name_the_subject(photos: Path) -> None:
    subject = load_subject(photos, class_noun="teapot", resolution=64)
    components = build(short("rpo", **{"objective.preference_images": 2}), subject, make_pipeline())
    drawn = components.trainer.class_images
    assert drawn is not None
    assert drawn.preferred is not None
    assert len(set(drawn.prompts)) == 7  # scenes that Toybox does not benchmark
    assert len(drawn.prompts) == len(drawn.preferred) == len(components.class_images.pixels) == 14  # pyright: ignore[reportOptionalMemberAccess]
    assert all("sks teapot" in prompt for prompt in drawn.prompts)
    assert ((drawn.preferred > 0.2) & (drawn.preferred < 0.8)).all()
    assert references_of(components.trainer).preferred is None


def test_what_labels_look_at_is_no_evidence() -> None:
    assert optimised_scores(short("rpo")) == ("CLIP-T",)
    assert optimised_scores(short("rpo", **{"objective.preference_identity": 0.5})) == ("DINO", "CLIP-T")
    assert optimised_scores(short("dco")) == ()


def test_what_does_not_go_with_rpo(photos: Path) -> None:
    with raises("settings-conflict", "subject.others"):
        short("rpo", **{"subject.others": "zwx=cat"})
    with raises("settings-conflict", "baseline.name"):
        short("rpo", **{"baseline.name": "draft"})
    subject = load_subject(photos, class_noun="teapot", resolution=64)
    with raises("settings-conflict", "pivotal"):
        build(short("rpo", **{"adapter.name": "pivotal"}), subject, make_pipeline())
