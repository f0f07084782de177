"""Out of memory: one message with settings that fit, or smaller micro-batches with the same result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from errors import raises
from jobs import SETTINGS, Command, as_options, exported, logged
from lookforward import personalize
from lookforward.algorithm.before_step import fewer_rows
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly.out_of_memory import device_memory, remedy_for
from lookforward.config.recipe import load_settings
from lookforward.core.types import State
from lookforward.errors import LookforwardWarning, is_out_of_memory
from lookforward.models.load_pipeline import find_device
from lookforward.models.policy import DiffusionPolicy
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward.runs.micro_batches import read_micro_batches
from tiny import tiny_trainer

GIVEN = SETTINGS | {"run.batch_size": 4, "evaluation.sample_every": 0, "optimizer.learning_rate": 1e-3}


def short(call: Callable[..., Any], most: int, seen: list[int]) -> Callable[..., Any]:
    """`act` with memory for so many rows where a gradient is taken."""

    def act(self_or_state: Any, *more: Any) -> Tensor:
        state: State = more[0] if more else self_or_state
        if torch.is_grad_enabled():
            seen.append(len(state.x_t))
            if len(state.x_t) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return call(self_or_state, *more)

    return act


def of_eight(critic: str = "adam", **settings: Any) -> Trainer:
    """Eight photos a step, and a critic whose learning shows."""
    trainer = tiny_trainer(critic=critic, **settings)
    trainer.batch_size = 8
    if trainer.critic_updater:
        trainer.critic_updater.optimizer.param_groups[0]["lr"] = 0.01
    return trainer


def state(trainer: Trainer) -> dict[str, Tensor]:
    critic = trainer.critic_updater.critic.state_dict() if trainer.critic_updater else {}
    trained = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
    streams = {name: getattr(trainer, name).get_state() for name in ("generator", "critic_generator")}
    return {name: one.double() for name, one in (trained | critic | streams).items()}


def failing_once(trainer: Trainer, site: str, at: int) -> None:
    """Memory is used up once, in step `at`: as the policy acts, as the critic or the policy goes backward."""
    spent = []

    def fail(*_: Any) -> None:
        if trainer.step == at - 1 and not spent:
            spent.append(True)
            raise MemoryError("no room")

    policy, updater = trainer.policy, trainer.critic_updater
    assert updater is not None
    own_act, own_step = policy.act, updater.optimizer.step
    if site == "act":
        policy.act = lambda state: (fail(), own_act(state))[1]  # pyright: ignore[reportAttributeAccessIssue]
    elif site == "critic":
        updater.optimizer.step = lambda *a: (own_step(*a), fail())[0]  # pyright: ignore[reportAttributeAccessIssue]
    else:
        trainer.parameters["unet.weight"].register_hook(fail)


@pytest.mark.parametrize("site", ["act", "critic", "backward"])
@pytest.mark.parametrize("critic", ["adam", "state-action"])
def test_halved_micro_batches_give_the_weights_of_accumulation_from_the_start(critic: str, site: str) -> None:
    expected, found = of_eight(critic), of_eight(critic)
    expected.accumulate, found.auto_batch = 2, True
    failing_once(found, site, at=1)
    with pytest.warns(LookforwardWarning, match="4 of 8 photos"):
        results = list(train(found, 4))
    assert found.smaller == {1: 2}
    logs = [result.terms for result in train(expected, 4)]
    for name, value in state(expected).items():
        torch.testing.assert_close(state(found)[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert [result.terms for result in results] == [pytest.approx(row, rel=1e-5, abs=1e-5) for row in logs]


def test_it_is_halved_until_it_fits_and_then_stays() -> None:
    trainer, seen = of_eight(), []
    trainer.auto_batch = True
    trainer.policy.act = short(trainer.policy.act, 4, seen)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.warns(LookforwardWarning):
        list(train(trainer, 2))
    assert (trainer.smaller, trainer.accumulate) == ({1: 4}, 4)
    assert seen == [16, 8, *[4] * 8]  # photos and as many class images; eight, four, then two at once
    assert [fewer_rows(rows) for rows in (1, 2, 3, 6, 9)] == [None, 2, 3, 2, 3]


@pytest.mark.filterwarnings("ignore::lookforward.errors.LookforwardWarning")
def test_what_cannot_be_halved_is_an_error_and_leaves_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    for auto, most, photos in ((True, 1, "1 photo "), (False, 8, "8 photos")):
        trainer = of_eight()
        trainer.auto_batch, before = auto, {name: p.detach().clone() for name, p in trainer.parameters.items()}
        trainer.policy.act = short(trainer.policy.act, most, [])  # pyright: ignore[reportAttributeAccessIssue]
        with raises("out-of-memory", "Step 1", photos, "2.00 GiB"):
            list(train(trainer, 1))
        assert all(torch.equal(before[name], p) for name, p in trainer.parameters.items())
    trainer = of_eight()
    trainer.auto_batch = True

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with raises("out-of-memory", "Step 1", "optimizer"):
        list(train(trainer, 1))


def test_errors_of_memory_are_recognised() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**55)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**55)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_device_that_others_have_filled_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "empty", fail)
    with raises("out-of-memory", "cuda:0"):
        find_device("cuda:0")


def test_a_checkpoint_for_which_memory_is_short_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = of_eight()
    list(train(trainer, 1))
    save_checkpoint(trainer, tmp_path)

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("lookforward.runs.trainer_state._restore_moments", fail)
    with pytest.raises(torch.OutOfMemoryError):
        load_newest(of_eight(), tmp_path)


def test_a_run_records_its_micro_batches_and_resumes_with_them(
    tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))

    def run(name: str, **settings: Any) -> Path:
        output = tmp_path / name
        personalize(photos, "teapot", model=str(tiny_model), output=output, settings=GIVEN | settings)
        return output

    expected = run("accumulated", **{"run.batch_size": 2, "run.accumulate": 2})
    seen: list[int] = []
    monkeypatch.setattr(DiffusionPolicy, "act", short(DiffusionPolicy.act, 4, seen))
    with pytest.warns(LookforwardWarning, match="2 of 4 photos"):
        whole = run("whole", **{"run.auto_batch": True})
    assert json.loads((whole / "micro-batches.json").read_text()) == [{"step": 1, "micro_batches": 2}]
    for ours, theirs in zip(logged(whole), logged(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)

    def stop(result: Any) -> None:
        if result.step == 3:
            raise InterruptedError

    with pytest.warns(LookforwardWarning), pytest.raises(InterruptedError):
        personalize(
            photos,
            "teapot",
            model=str(tiny_model),
            output=tmp_path / "cut",
            on_step=stop,
            settings=GIVEN | {"run.auto_batch": True},
        )
    seen.clear()
    resumed = run("cut", **{"run.auto_batch": True})
    assert max(seen) == 4  # not once more than fits
    assert logged(resumed) == logged(whole)
    assert {k: v for k, v in exported(resumed).items() if k.endswith("safetensors")} == {
        k: v for k, v in exported(whole).items() if k.endswith("safetensors")
    }


def test_a_damaged_record_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "micro-batches.json").write_text('[{"step": 1, "micro_batches": 1}]')
    with pytest.warns(LookforwardWarning, match="micro-batches.json"):
        assert read_micro_batches(tmp_path) == {}


def test_the_command_ends_with_one_message_and_its_own_status(
    command_line: Command, tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", photos, "--class-noun", "teapot", "--model", tiny_model, "--output", tmp_path / "run"]
    own = DiffusionPolicy.act

    def act(self: DiffusionPolicy, state: State) -> Tensor:
        if torch.is_grad_enabled() and (tmp_path / "run" / "checkpoints" / "step-000004").is_dir():
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 5 bytes.")
        return own(self, state)

    monkeypatch.setattr(DiffusionPolicy, "act", act)
    monkeypatch.setattr("lookforward.assembly.out_of_memory.device_memory", lambda device: (3 * 2**29, 2**28))
    status, _, err = command_line(*command, *as_options(GIVEN))
    assert status == 4
    assert "Traceback" not in err
    facts = ["Step 5", "4 photos", "DefaultCPUAllocator", "step-000004", "gradients", "activations", "1.50 GiB"]
    facts += ["0.25 GiB", "--batch-size 1", "--run.accumulate 4", "--auto-batch"]
    assert [fact for fact in facts if fact not in err] == []
    monkeypatch.setattr(DiffusionPolicy, "act", own)
    assert command_line(*command, *as_options(GIVEN))[0] == 0  # it goes on


def test_settings_that_fit_are_the_least_costly(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"model.name": str(tiny_model), "subject.class_noun": "teapot", "data.resolution": 32, "run.batch_size": 8}
    settings = load_settings("look-forward", given)
    monkeypatch.setattr("lookforward.assembly.out_of_memory.device_memory", lambda device: (4 * 2**30, 0))
    text = remedy_for(settings, given)
    assert "another --output" in text  # another batch is another run
    assert "--run.accumulate 8" in text
    alone = remedy_for(settings, given | {"run.accumulate": 1}, processes=8)  # a photo on each
    assert "--model.gradient-checkpointing" in alone
    assert "the run goes on" in alone
    with pytest.raises(RuntimeError):
        device_memory("cuda")
    assert device_memory("cpu")[0] > 2**28


def test_with_fused_updates_it_is_refused() -> None:
    with raises("settings-conflict", "run.auto_batch", "optimizer.fused"):
        load_settings("look-forward", {"run.auto_batch": True, "optimizer.fused": True})


def test_what_cannot_be_counted_still_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> tuple[int, int]:
        raise RuntimeError("no such device")

    monkeypatch.setattr("lookforward.assembly.out_of_memory.device_memory", none)
    text = remedy_for(load_settings("look-forward", {"subject.class_noun": "dog", "run.batch_size": 2}), None)
    assert "no such device" in text
    assert "--auto-batch" in text
