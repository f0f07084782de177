"""A run that was interrupted goes on exactly where it was, and a bad disk loses nothing."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from errors import raises
from lookforward.algorithm.environment import TransitionKind
from lookforward.algorithm.returns import Target, TargetKind
from lookforward.algorithm.trainer import Trainer, train
from lookforward.runs import checkpoint
from lookforward.runs.checkpoint import list_checkpoints, load_newest, save_checkpoint
from tiny import paying, tiny_trainer


def run_to(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    return [result.terms for result in train(trainer, steps)]


def whole_state(trainer: Trainer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {f"policy/{name}": p for name, p in trainer.parameters.items()}
    optimizers = {"optimizer": trainer.optimizer}
    if trainer.critic_updater is not None:
        tensors |= {f"critic/{name}": tensor for name, tensor in trainer.critic_updater.critic.state_dict().items()}
        optimizers["critic_optimizer"] = trainer.critic_updater.optimizer
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value for key, value in state.items() if value is not None}
    tensors["generator"] = trainer.generator.get_state()
    tensors["critic_generator"] = trainer.critic_generator.get_state()
    tensors["adapter_generator"] = trainer.adapter_generator.get_state()
    tensors["step"] = torch.tensor(trainer.step)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.mark.parametrize("critic", ["none", "sgd", "adam"])
@pytest.mark.parametrize("train_text_encoder", [True, False])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, critic: str, train_text_encoder: bool) -> None:
    straight = tiny_trainer(critic=critic, train_text_encoder=train_text_encoder)
    terms = run_to(straight, 6)
    first = tiny_trainer(critic=critic, train_text_encoder=train_text_encoder)
    assert run_to(first, 3) == terms[:3]
    save_checkpoint(first, tmp_path)
    weights = 0 if not train_text_encoder else 7  # what is frozen is not in the checkpoint
    second = tiny_trainer(9, weights=weights, critic=critic, train_text_encoder=train_text_encoder)
    assert load_newest(second, tmp_path)
    assert_equal(whole_state(second), whole_state(first))
    assert run_to(second, 6) == terms[3:]
    assert_equal(whole_state(second), whole_state(straight))
    names = whole_state(second)
    assert "optimizer/0/exp_avg_sq" in names
    assert ("critic_optimizer/0/exp_avg_sq" in names) == (critic == "adam")


@pytest.mark.parametrize(
    ("kind", "transition"),
    [("monte-carlo", "reference"), ("monte-carlo", "policy"), ("bootstrap", "reference"), ("bootstrap", "policy")],
)
def test_every_target_resumes_exactly(tmp_path: Path, kind: TargetKind, transition: TransitionKind) -> None:
    """With the target network, the scale of returns, the record of the fit and the critic's own generator."""

    def fresh(seed: int) -> Trainer:
        return tiny_trainer(
            seed,
            critic="state-action",
            environment=paying(transition=transition, stride=250),
            target=Target(kind, 0.999, samples=2),
            bins=4,
            steps=2,
            warmup=1,
        )

    straight = fresh(0)
    terms = run_to(straight, 4)
    first = fresh(0)
    run_to(first, 2)
    save_checkpoint(first, tmp_path)
    second = fresh(5)
    assert load_newest(second, tmp_path)
    assert run_to(second, 4) == terms[2:]
    assert_equal(whole_state(second), whole_state(straight))
    assert ("critic/target_network.first.weight" in whole_state(second)) == (kind == "bootstrap")
    assert whole_state(second)["critic/scale.count"].sum() > 0
    assert whole_state(second)["critic/explained_variance.moments"][0] > 0


def test_saving_changes_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(critic="adam")
    run_to(trainer, 2)
    before = whole_state(trainer)
    save_checkpoint(trainer, tmp_path)
    assert_equal(before, whole_state(trainer))


def test_only_the_newest_two_are_kept_and_the_same_step_may_be_saved_again(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    for steps in (1, 2, 3, 3):
        run_to(trainer, steps)
        written = save_checkpoint(trainer, tmp_path / "checkpoints")
        assert sorted(path.name for path in written.iterdir()) == ["SHA256SUMS", "state.json", "state.safetensors"]
    found = list_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in found] == ["step-000002", "step-000003"]
    assert found == sorted((tmp_path / "checkpoints").iterdir())  # and nothing else


def test_order_is_that_of_steps_not_of_letters(tmp_path: Path) -> None:
    for name in ("step-1000000", "step-999999", "step-000010"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-000010",
        "step-999999",
        "step-1000000",
    ]


def test_nothing_to_resume(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    assert not load_newest(trainer, tmp_path / "nowhere")
    (tmp_path / "step-backup").mkdir()
    assert not load_newest(trainer, tmp_path)
    assert trainer.step == 0


def saved_twice(folder: Path) -> tuple[dict[str, Tensor], Path, Path]:
    """The state at step 2 and the checkpoints of steps 2 and 4."""
    trainer = tiny_trainer(critic="adam")
    run_to(trainer, 2)
    older = save_checkpoint(trainer, folder)
    state = whole_state(trainer)
    run_to(trainer, 4)
    return state, older, save_checkpoint(trainer, folder)


def test_a_half_written_folder_is_ignored_and_cleared_away(tmp_path: Path) -> None:
    state, _, newer = saved_twice(tmp_path)
    half = tmp_path / f".partial-{newer.name}"
    newer.rename(half)
    (half / "state.json").unlink()
    trainer = tiny_trainer(9, weights=7, critic="adam")
    assert load_newest(trainer, tmp_path)
    assert_equal(whole_state(trainer), state)
    run_to(trainer, 4)
    save_checkpoint(trainer, tmp_path)
    assert not half.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "no json", "half a json", "no tensors", "a file"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    state, _, newer = saved_twice(tmp_path)
    tensors, record = newer / "state.safetensors", newer / "state.json"
    match damage:
        case "truncated":
            tensors.write_bytes(tensors.read_bytes()[:-100])
        case "empty":
            tensors.write_bytes(b"")
        case "no json":
            record.unlink()
        case "half a json":
            record.write_text(record.read_text()[:8])
        case "no tensors":
            tensors.unlink()
        case _:
            shutil.rmtree(newer)
            newer.write_text("")
    trainer = tiny_trainer(9, weights=7, critic="adam")
    assert load_newest(trainer, tmp_path)
    assert_equal(whole_state(trainer), state)


def test_no_readable_checkpoint_is_an_error_that_names_them(tmp_path: Path) -> None:
    _, older, newer = saved_twice(tmp_path)
    for path in (older, newer):
        (path / "state.safetensors").write_bytes(b"nonsense")
    with raises("checkpoint-unusable", "step-000004: ", "step-000002: ", tmp_path):
        load_newest(tiny_trainer(critic="adam"), tmp_path)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"channels": 3}, "other parameters"),
        ({"train_text_encoder": False}, "other parameters"),
        ({"critic": "none"}, "another critic"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, other: dict[str, object], reason: str) -> None:
    saved_twice(tmp_path)
    trainer = tiny_trainer(9, weights=7, **{"critic": "adam", **other})  # type: ignore[arg-type]
    before = whole_state(trainer)
    with raises("checkpoint-unusable", reason):
        load_newest(trainer, tmp_path)
    assert_equal(whole_state(trainer), before)


def test_a_checkpoint_of_other_base_weights_is_refused(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    run_to(trainer, 1)
    save_checkpoint(trainer, tmp_path / "run" / "checkpoints", "a1")
    other = tiny_trainer(9, weights=7)
    before = whole_state(other)
    with raises("model-changed", tmp_path / "run"):
        load_newest(other, tmp_path / "run" / "checkpoints", "b2")
    assert_equal(whole_state(other), before)
    assert load_newest(other, tmp_path / "run" / "checkpoints", "a1")
    save_checkpoint(trainer, tmp_path / "unknown")  # as those of before it was written down
    assert load_newest(other, tmp_path / "unknown", "b2")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    trainer = tiny_trainer()
    run_to(trainer, 1)
    earlier = save_checkpoint(trainer, tmp_path)
    content = {path.name: path.read_bytes() for path in earlier.iterdir()}
    run_to(trainer, 2)

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with raises("disk-full", "step-000002"):
        save_checkpoint(trainer, tmp_path)
    assert list(tmp_path.iterdir()) == [earlier]
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == content
    monkeypatch.undo()
    assert save_checkpoint(trainer, tmp_path).name == "step-000002"  # room was made


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with raises("not-writable", "checkpoints"):
        save_checkpoint(tiny_trainer(), tmp_path / "checkpoints")


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    run_to(trainer, 1)
    record = json.loads((save_checkpoint(trainer, tmp_path) / "state.json").read_text())
    assert record["step"] == 1
    assert record["has_critic"] is True
