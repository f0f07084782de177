"""Training in less memory: micro-batches, updates within the backward pass, 8-bit moments."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from errors import raises
from lookforward.algorithm.fused_updates import updating_in_backward
from lookforward.algorithm.returns import Target
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly.optimizer import build_optimizer
from lookforward.config.reading import structure
from lookforward.config.settings import Settings
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import tiny_trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    critic = trainer.critic_updater.critic.state_dict() if trainer.critic_updater else {}
    trained = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    return trained | {f"critic.{name}": value.clone() for name, value in critic.items() if value.is_floating_point()}


@pytest.mark.parametrize("critic", ["none", "adam", "state-action"])
@pytest.mark.parametrize("trained", [True, False], ids=["text-trained", "text-frozen"])
def test_micro_batches_of_one_equal_a_batch_of_two(critic: str, trained: bool) -> None:
    runs = []
    for accumulate in (1, 2):
        trainer = tiny_trainer(critic=critic, train_text_encoder=trained)
        trainer.accumulate = accumulate
        if trainer.critic_updater:
            trainer.critic_updater.optimizer.param_groups[0]["lr"] = 0.01  # so that what it learns shows
        before = weights(trainer)
        results = list(train(trainer, 3))
        runs.append((before, weights(trainer), results[-1].terms))
    (before, whole, terms), (_, parts, terms_of_parts) = runs
    assert any(not torch.equal(before[name], whole[name]) for name in before if name.startswith("critic")) == (
        critic != "none"
    )
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=1e-5)
    assert terms.keys() == terms_of_parts.keys()
    assert terms_of_parts["loss"] == pytest.approx(terms["loss"], rel=1e-4)


def test_micro_batches_with_a_bootstrapped_target() -> None:
    found = []
    for accumulate in (1, 2):
        trainer = tiny_trainer(critic="state-action", target=Target("bootstrap", 0.9986), steps=2)
        trainer.accumulate = accumulate
        assert trainer.critic_updater
        trainer.critic_updater.optimizer.param_groups[0]["lr"] = 0.01
        list(train(trainer, 2))
        found.append(weights(trainer))
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-5, atol=1e-5)


def test_fused_updates_equal_an_update_afterwards_where_nothing_is_clipped() -> None:
    found = []
    for fused in (False, True):
        trainer = tiny_trainer(critic="adam")
        trainer.max_grad_norm, trainer.fused = 1e12, fused
        results = list(train(trainer, 3))
        found.append((weights(trainer), results[-1].terms["gradient"]))
        if fused:
            assert all(parameter.grad is None for parameter in trainer.parameters.values())
    for name in found[0][0]:
        assert torch.equal(found[1][0][name], found[0][0][name]), name
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


def test_fused_updates_clip_each_gradient_by_itself() -> None:
    layers = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    weights = [parameter for layer in layers for parameter in layer.parameters()]
    before = [layer.weight.item() for layer in layers]
    optimizer = torch.optim.SGD(weights, lr=1.0)
    with updating_in_backward(optimizer, weights, 0.5) as norms:
        (3 * layers[0].weight + 0.25 * layers[1].weight).sum().backward()
    moved = [old - layer.weight.item() for old, layer in zip(before, layers, strict=True)]
    assert moved == pytest.approx([0.5, 0.25], abs=1e-5)
    assert sorted(norm.item() for norm in norms) == pytest.approx([0.25, 3.0])


def test_fused_updates_stop_at_a_gradient_that_is_not_finite() -> None:
    layer = nn.Linear(1, 1, bias=False)
    before = layer.weight.item()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    with raises("not-finite", "optimizer.fused"), updating_in_backward(optimizer, layer.parameters(), 1.0):
        (layer.weight * torch.inf).sum().backward()
    assert layer.weight.item() == before


@pytest.mark.parametrize("other", [{"run.accumulate": 2}, {"baseline.name": "draft"}])
def test_fused_updates_are_refused_where_gradients_are_summed(other: dict[str, Any]) -> None:
    structure({"optimizer.fused": True}, "here")
    with raises("settings-conflict", "optimizer.fused", "run.accumulate"):
        structure({"optimizer.fused": True, **other}, "here")


def _large_trainer() -> tuple[Trainer, nn.Parameter]:
    """A trainer with a weight that is large enough for 8-bit moments."""
    trainer = tiny_trainer(critic="none")
    large = nn.Parameter(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    trainer.parameters["large"] = large
    settings = structure({"optimizer.eight_bit": True, "optimizer.learning_rate": 0.01}, "here")
    trainer.optimizer = build_optimizer(settings, trainer.parameters.values())
    take_step = trainer.take_step

    def step(trainer: Trainer) -> dict[str, float]:
        trainer.optimizer.zero_grad()
        large.grad = large.detach().sin()
        trainer.optimizer.step()
        return take_step(trainer)

    trainer.take_step = step
    return trainer, large


def test_moments_in_eight_bits_train_and_resume_to_the_last_bit(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    trainer, large = _large_trainer()
    list(train(trainer, 2))
    state = trainer.optimizer.state[large]
    assert {state["state1"].dtype, state["state2"].dtype} == {torch.uint8}
    save_checkpoint(trainer, tmp_path)
    list(train(trainer, 4))
    resumed, _ = _large_trainer()
    assert load_newest(resumed, tmp_path)
    list(train(resumed, 4))
    for name, value in weights(trainer).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_moments_in_eight_bits_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookforward.models.packages.find_spec", lambda name: None)
    settings = structure({"optimizer.eight_bit": True}, "here")
    with raises("package-missing", "bitsandbytes", "optimizer.eight_bit", "lookforward[memory]"):
        build_optimizer(settings, [nn.Parameter(torch.zeros(1))])
    assert isinstance(build_optimizer(Settings(), [nn.Parameter(torch.zeros(1))]), torch.optim.AdamW)
