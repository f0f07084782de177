"""Averages of the trained weights, the untouched policy that preserves the class, and min-SNR weighting."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from errors import raises
from jobs import SETTINGS, exported, logged
from lookforward.algorithm.rates import RateSchedule
from lookforward.algorithm.trainer import Objective, Trainer, train
from lookforward.algorithm.weights import Averages, Untouched
from lookforward.api import personalize
from lookforward.config.reading import structure
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import State
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import PATH, TinyPolicy, seeded, tiny_trainer

CLASS = "a photo of dog"


def snapshot(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.parameters.items()}


def averaging(seed: int = 0, decay: float = 0.6) -> Trainer:
    trainer = tiny_trainer(seed)
    trainer.averages = Averages(trainer.parameters, decay)
    trainer.rates = RateSchedule("cosine", warmup=2)
    return trainer


def test_averages_follow_the_weights() -> None:
    trainer = averaging()
    expected = snapshot(trainer)
    for result in train(trainer, 8):
        kept = min(0.6, (1 + result.step) / (10 + result.step))
        for name, weight in snapshot(trainer).items():
            expected[name] = kept * expected[name] + (1 - kept) * weight
    assert trainer.averages is not None
    own = snapshot(trainer)
    for name, average in trainer.averages.values.items():
        torch.testing.assert_close(average, expected[name])
        assert not torch.equal(average, own[name])
    with trainer.averaged():
        for name, weight in trainer.parameters.items():
            assert torch.equal(weight, trainer.averages.values[name])
    assert all(torch.equal(weight, own[name]) for name, weight in trainer.parameters.items())


def test_averages_change_nothing_that_is_trained() -> None:
    plain = tiny_trainer()
    plain.rates = RateSchedule("cosine", warmup=2)
    assert [r.terms for r in train(plain, 6)] == [r.terms for r in train(averaging(), 6)]


def test_averages_and_rates_resume_exactly(tmp_path: Path) -> None:
    straight = averaging()
    terms = [result.terms for result in train(straight, 8)]
    first = averaging()
    for result in train(first, 8):
        if result.step == 3:
            save_checkpoint(first, tmp_path)
            break
    second = averaging(9)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 8)] == terms[3:]
    assert straight.averages is not None
    assert second.averages is not None
    for name, average in straight.averages.values.items():
        assert torch.equal(average, second.averages.values[name])
    with raises("checkpoint-unusable", "optimizer.ema"):
        load_newest(tiny_trainer(), tmp_path)


def test_the_export_holds_the_averages(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model.name": str(tiny_model), **SETTINGS, "optimizer.ema": 0.9, "optimizer.warmup": 2,
        "optimizer.schedule": "cosine", "adapter.name": "lora", "adapter.train_text_encoder": False,
    }  # fmt: skip
    folder = tmp_path / "run"
    personalize(photos, "teapot", output=folder, settings=options)
    state = load_file(folder / "checkpoints" / "step-000006" / "state.safetensors")
    written = load_file(folder / "export" / "pytorch_lora_weights.safetensors")
    name = next(name for name in state if name.startswith("average/") and "lora_B" in name)
    key = name.removeprefix("average/").replace(".lora_B.default.weight", ".lora.up.weight")
    assert torch.equal(written[key], state[name])
    assert not torch.equal(written[key], state[name.replace("average/", "policy/")])


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_run_with_all_of_it_goes_on_exactly(adapter: str, tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model.name": str(tiny_model), **SETTINGS, "optimizer.ema": 0.9, "optimizer.warmup": 2,
        "optimizer.schedule": "cosine", "adapter.name": adapter, "adapter.train_text_encoder": True,
        "objective.preservation": "output", "objective.min_snr": 5.0, "data.class_images": 0,
    }  # fmt: skip

    class StopError(Exception):
        pass

    def stop(result: Any) -> None:
        if result.step == 5:
            raise StopError

    personalize(photos, "teapot", output=tmp_path / "straight", settings=options)
    with pytest.raises(StopError):
        personalize(photos, "teapot", output=tmp_path / "stopped", settings=options, on_step=stop)
    personalize(photos, "teapot", output=tmp_path / "stopped", settings=options)
    assert exported(tmp_path / "straight") == exported(tmp_path / "stopped")
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")
    priors = [row["prior_loss"] for row in logged(tmp_path / "straight")]
    assert priors[0] < 1e-6  # nothing was forgotten before the first step
    assert priors[-1] > 10 * priors[0]


def preserving(critic: str = "none", weight: float = 0.7) -> Trainer:
    trainer = tiny_trainer(critic=critic, prior=False)
    trainer.untouched = Untouched(trainer.policy, trainer.parameters)
    trainer.objective = Objective(0.5, 1.0, weight, 0.9986)
    return trainer


@pytest.mark.parametrize("critic", ["none", "sgd", "state-action"])
def test_the_class_is_preserved_by_the_untouched_models_output(critic: str) -> None:
    trainer, untouched = preserving(critic), TinyPolicy()  # its weights before training
    list(train(trainer, 5))
    before = snapshot(trainer)
    generator = seeded()
    generator.set_state(trainer.generator.get_state())
    batch = trainer.draw(trainer.references, generator)
    x_t = add_noise(batch.x_0, batch.noise, *PATH.at(batch.timestep))
    with torch.no_grad():
        outputs = [
            policy.act(State(x_t, batch.timestep, policy.encode_prompts([CLASS] * 2)))
            for policy in (trainer.policy, untouched)
        ]
    prior = (outputs[0] - outputs[1]).square().mean().item()
    assert prior > 1e-5
    (result,) = train(trainer, 6)
    assert result.terms["prior_loss"] == pytest.approx(prior, rel=1e-4)
    value = 0.5 * result.terms.get("value", 0.0)
    assert result.terms["loss"] == pytest.approx(result.terms["noise_loss"] + 0.7 * prior - value, rel=1e-4)
    assert any(not torch.equal(p, before[name]) for name, p in trainer.parameters.items())
    assert trainer.untouched is not None
    initial = dict(untouched.named_parameters())
    assert all(torch.equal(value, initial[name]) for name, value in trainer.untouched.values.items())


def test_preservation_keeps_the_class_nearer_to_what_it_was() -> None:
    def drift(trainer: Trainer) -> float:
        list(train(trainer, 60))
        x_t, timestep = torch.randn(8, 4, 8, 8, generator=seeded(3)), torch.arange(8) * 100
        with torch.no_grad():
            one, other = (
                policy.act(State(x_t, timestep, policy.encode_prompts([CLASS] * 8)))
                for policy in (trainer.policy, TinyPolicy())
            )
        return (one - other).square().mean().item()

    assert drift(preserving(weight=5.0)) < 0.5 * drift(tiny_trainer(critic="none", prior=False))


def test_min_snr_weights_are_those_of_the_paper() -> None:
    signal, noise_level = PATH.at(torch.tensor([0, 10, 300, 700, 999]))
    snr = (signal.double() / noise_level.double()) ** 2
    capped = snr.clamp(max=5.0)
    assert capped.min() < 5 < snr.max()
    for prediction, expected in (
        (Prediction.EPSILON, capped / snr), (Prediction.V, capped / (snr + 1)), (Prediction.SAMPLE, capped),
    ):  # fmt: skip
        weight = prediction.min_snr_weight(signal, noise_level, 5.0)
        torch.testing.assert_close(weight, expected.float())
    nothing = torch.zeros(1), torch.ones(1)  # zero terminal SNR
    assert Prediction.EPSILON.min_snr_weight(*nothing, 5.0).item() == 1
    assert Prediction.V.min_snr_weight(*nothing, 5.0).item() == 0
    with pytest.raises(ValueError, match="flow"):
        Prediction.FLOW.min_snr_weight(signal, noise_level, 5.0)


@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.V, Prediction.SAMPLE])
def test_min_snr_makes_every_loss_that_of_the_image(prediction: Prediction) -> None:
    """‖x̂_0 - x_0‖² min(SNR, 5), whatever is predicted."""
    trainer = tiny_trainer(critic="none", prior=False)
    trainer.policy.prediction = prediction  # pyright: ignore[reportAttributeAccessIssue]
    trainer.objective = Objective(0.0, 1.0, 1.0, 1.0, min_snr=5.0)
    batch = trainer.draw(trainer.references, seeded())
    signal, noise_level = PATH.at(batch.timestep)
    x_t = add_noise(batch.x_0, batch.noise, signal, noise_level)
    with torch.no_grad():
        action = trainer.policy.act(State(x_t, batch.timestep, trainer.policy.encode_prompts(batch.prompts)))
    missed = (prediction.x_0_hat(action, x_t, signal, noise_level) - batch.x_0).square().mean(dim=(1, 2, 3))
    (result,) = train(trainer, 1)
    expected = ((signal / noise_level) ** 2).clamp(max=5.0) * missed
    assert result.terms["noise_loss"] == pytest.approx(expected.mean().item(), rel=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer.warmup": 10, "run.steps": 10},
        {"optimizer.decay": 0.5, "optimizer.schedule": "cosine"},
        {"objective.preservation": "output", "baseline.name": "draft"},
    ],
)
def test_settings_that_contradict_each_other(values: dict[str, Any]) -> None:
    with raises("settings-conflict", next(iter(values))):
        structure(values, "a test")
