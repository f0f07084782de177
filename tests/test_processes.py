"""A run on two processes is that of one process with the whole batch: weights, critic, metrics, files."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from errors import raises
from jobs import SETTINGS, as_options, exported, logged, server, tree
from lookforward.adapters.neti import NetiNetwork
from lookforward.algorithm.micro_batches import StepDropout
from lookforward.algorithm.processes import Processes
from lookforward.assembly.processes import check_processes, share_dropout
from lookforward.config.recipe import load_settings
from lookforward.core.types import Batch
from tiny import seeded, tiny_trainer
from two_processes import CASES, PATIENCE, both, codes, command, free_port, outcome, run_case, run_cases


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return server()


@pytest.fixture(scope="module")
def of_two(context: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert codes(both(context, run_cases, folder)) == [0, 0]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_the_whole_batch(name: str, of_two: Path) -> None:
    first, second = (load_file(of_two / f"{name}-{i}.safetensors") for i in range(2))
    one, begun = run_case(name, Processes(), whole=True), outcome(CASES[name](Processes()), [])
    assert first.keys() == second.keys() == one.keys()
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")
    moved = [key for key in begun if (one[key] - begun[key]).abs().max() > 1e-3]
    parts = {"policy", "generator"} | ({"critic", "critic_generator"} if name != "draft" else set())
    parts -= {"critic_generator"} if name not in ("monte_carlo", "accumulated_steps") else set()
    assert parts <= {key.split("/")[0] for key in moved}  # or nothing would have been compared


def test_a_gradient_that_one_process_lacks_is_zero_there(of_two: Path) -> None:
    for i in range(2):
        found = load_file(of_two / f"gradients-{i}.safetensors")
        assert {name: one.tolist() for name, one in found.items()} == {"0": [1.5, 1.5], "1": [1.0, 1.0]}


def test_shares_make_up_the_whole_batch() -> None:
    trainer = tiny_trainer()
    whole = trainer.references.draw(6, trainer.policy.path, seeded())
    parts = [Processes(i, 3).share(whole) for i in range(3)]
    assert torch.equal(torch.cat([part.x_0 for part in parts]), whole.x_0)
    assert torch.equal(torch.cat([part.timestep for part in parts]), whole.timestep)
    assert sum((part.prompts for part in parts), ()) == whole.prompts
    drawn = [Processes(i, 3).sample(torch.rand, 4, 2, generator=seeded(), dim=1) for i in range(3)]
    assert torch.equal(torch.cat(drawn, dim=1), torch.rand(4, 6, generator=seeded()))


def test_nested_dropout_is_drawn_as_by_one_process() -> None:
    photos, classes = NetiNetwork(16, 0.2, 0.5, seeded()).draw_keep(12, 5).chunk(2)  # of six photos, six class images
    for i in range(3):
        pipeline = SimpleNamespace(embedding=SimpleNamespace(draw_keep=NetiNetwork(16, 0.2, 0.5, seeded()).draw_keep))
        share_dropout(pipeline, Processes(i, 3), photos=2)
        mine = slice(2 * i, 2 * i + 2)
        assert torch.equal(pipeline.embedding.draw_keep(4, 5), torch.cat([photos[mine], classes[mine]]))
    plain = SimpleNamespace(embedding=None)
    assert share_dropout(plain, Processes(0, 2), photos=2) is None
    assert plain.embedding is None


@pytest.mark.parametrize("classes", [None, (4, 8, 8), (4, 8, 6)])
def test_nested_dropout_of_a_step_is_drawn_for_the_whole_batch(classes: tuple[int, ...] | None) -> None:
    def whole(b: int) -> Batch:
        x, of_class = torch.zeros(b, 4, 8, 8), torch.zeros(b, *(classes or ()))
        more = Batch(of_class, of_class, torch.zeros(b), ()) if classes else None
        return Batch(x, x, torch.zeros(b), (), more)

    draw = NetiNetwork(16, 0.2, 0.5, seeded()).draw_keep
    expected = [draw(24, 5)] if classes == (4, 8, 8) else [draw(12, 5) for _ in range(2 if classes else 1)]
    photos, of_class = torch.cat(expected)[:12], torch.cat(expected)[12:]
    for i in range(2):
        dropout = StepDropout(NetiNetwork(16, 0.2, 0.5, seeded()).draw_keep, Processes(i, 2))
        dropout.begin(whole(6), parts=3)
        for part in (0, 1, 2):  # the critic sees photos alone, and first
            dropout.at(part)
            assert torch.equal(dropout(2, 5), photos[6 * i + 2 * part :][:2])
        for part in (0, 1, 2):
            dropout.at(part)
            mine = [photos[6 * i + 2 * part :][:2], of_class[6 * i + 2 * part :][:2]]
            found = [dropout(4, 5)] if classes == (4, 8, 8) else [dropout(2, 5) for _ in mine[: 2 if classes else 1]]
            assert torch.equal(torch.cat(found), torch.cat(mine))


@pytest.mark.parametrize(
    ("code", "recipe", "given", "facts"),
    [
        ("processes-batch", "look-forward", {"run.batch_size": 5}, ("5", "2 processes", "--batch-size 6")),
        ("processes-fused", "look-forward", {"run.batch_size": 2, "optimizer.fused": True}, ("optimizer.fused",)),
        ("processes-dpok", "dpok", {"run.batch_size": 2}, ("dpok",)),
        ("processes-auto-batch", "look-forward", {"run.batch_size": 2, "run.auto_batch": True}, ("--batch-size 1",)),
    ],
)
def test_what_processes_cannot_share_is_refused(
    code: str, recipe: str, given: dict[str, Any], facts: tuple[str, ...]
) -> None:
    settings = load_settings(recipe, {"subject.class_noun": "dog", **given})
    check_processes(settings, Processes())
    with raises(code, *facts):
        check_processes(settings, Processes(0, 2))


def words(photos: Path, model: Path, output: Path, **settings: Any) -> list[str]:
    given = SETTINGS | {"run.batch_size": 2, "run.steps": 8, "run.checkpoint_every": 3} | settings
    subject = ["--class-noun", "teapot", "--model", str(model), "--device", "cpu", "--output", str(output)]
    return ["train", str(photos), *subject, *as_options(given)]


def test_a_run_on_two_processes_is_written_once_and_resumes_to_the_same_bits(
    context: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert codes(both(context, command, words(photos, tiny_model, whole), tmp_path)) == [0, 0]
    assert "step 8/8" in (tmp_path / "out-0").read_text()
    assert (tmp_path / "out-1").read_text() == ""
    # The same on one process, with the same settings
    from lookforward.cli import main

    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    one = tmp_path / "one"
    main(words(photos, tiny_model, one))
    assert (one / "settings.toml").read_text() == (whole / "settings.toml").read_text()
    for ours, theirs in zip(logged(one), logged(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    states = [load_file(folder / "checkpoints" / "step-000008" / "state.safetensors") for folder in (one, whole)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        # Softmax does not see a key's bias: its gradient is rounding alone, which Adam makes whole steps of
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    # Killed after a checkpoint, and resumed
    running = both(context, command, words(photos, tiny_model, killed), tmp_path)
    while not ((killed / "metrics.jsonl").is_file() and len(logged(killed)) >= 4):
        assert all(process.is_alive() for process in running)
    for process in running:
        process.kill()
    assert codes(running) == [-signal.SIGKILL] * 2
    resumed = tmp_path / "resumed"
    shutil.copytree(killed, resumed)
    assert codes(both(context, command, words(photos, tiny_model, killed), tmp_path)) == [0, 0]
    assert "Continuing after step" in (tmp_path / "out-0").read_text()
    assert exported(killed) == exported(whole)
    assert logged(killed) == logged(whole)
    assert tree(killed / "samples") == tree(whole / "samples")
    # On one process, where only the rounding differs
    main(words(photos, tiny_model, resumed))
    for ours, theirs in zip(logged(resumed), logged(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


FAILING = """
import os, time, torch
def failing(images, prompts):
    if os.environ["RANK"] in {ranks!r}:
        raise ValueError("this one fails")
    time.sleep(200)  # while it waits for nothing of the others
    return torch.zeros(len(images))
"""


@pytest.mark.parametrize("ranks", ["0", "1", "01"])
def test_an_error_in_one_process_ends_both_with_one_message(
    ranks: str, context: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "paying.py").write_text(FAILING.format(ranks=ranks))
    arguments = [*words(photos, tiny_model, tmp_path / "run"), "--reward", "paying:failing"]
    begun = time.monotonic()
    assert 0 not in codes(both(context, command, arguments, tmp_path))
    assert time.monotonic() - begun < 190
    said = [(tmp_path / f"err-{i}").read_text() for i in range(2)]
    assert len(re.findall("^lookforward: .*Step 1: .*this one fails", "\n".join(said), re.MULTILINE)) == 1
    assert "Traceback" not in "".join(said)
    assert "another process" not in "".join(said).lower()


def test_an_error_before_the_processes_meet_is_reported_once(
    context: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    arguments = [*words(photos, tiny_model, tmp_path / "run"), "--run.seed", "-1"]
    assert codes(both(context, command, arguments, tmp_path)) == [2, 2]
    assert [len((tmp_path / f"err-{i}").read_text().splitlines()) for i in range(2)] == [1, 0]
    assert codes(both(context, command, ["generate", "run", "a dog"], tmp_path)) == [2, 2]
    assert "generate" in (tmp_path / "err-0").read_text()


@pytest.mark.slow
def test_accelerate_launch_starts_a_run(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", str(free_port()), "-m", "lookforward"]
    done = subprocess.run(
        launch + words(photos, tiny_model, tmp_path / "run"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Done: ") == done.stdout.count("step 8/8") == 1
    assert (tmp_path / "run" / "export" / "lookforward.json").is_file()
