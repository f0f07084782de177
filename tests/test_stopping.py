"""A signal ends a training after the step at hand, which is saved; the run goes on to the same result."""

import os
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from jobs import SETTINGS, as_options, exported, logged, server, start

LONG = SETTINGS | {"run.steps": 40, "run.checkpoint_every": 1000, "evaluation.sample_every": 0}


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = server()
    start(context, ["--help"]).join(120)
    return context


def test_every_signal_saves_the_step_at_hand(
    processes: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    command = ["train", str(photos), "--class-noun", "teapot", "--model", str(tiny_model), *as_options(LONG)]
    folder = tmp_path / "run"
    for number, lines in ((signal.SIGTERM, 3), (signal.SIGHUP, 9), (signal.SIGINT, 15)):
        receiver, sender = processes.Pipe(duplex=False)
        process = start(processes, [*command, "--output", str(folder)], cache=tmp_path / "cache", errors=sender)
        log = folder / "metrics.jsonl"
        while process.is_alive() and (not log.is_file() or log.read_bytes().count(b"\n") < lines):
            time.sleep(0.002)
        begun = time.monotonic()
        os.kill(process.pid or 0, number)
        process.join(60)
        assert process.exitcode == 128 + number
        assert time.monotonic() - begun < 10
        said = receiver.recv()
        saved = max(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())
        assert f"step {saved}," in said
        assert "Traceback" not in said
        assert saved == logged(folder)[-1]["step"] >= lines
    for place in (folder, tmp_path / "whole"):
        process = start(processes, [*command, "--output", str(place)], cache=tmp_path / "cache")
        process.join(120)
        assert process.exitcode == 0
    assert exported(folder) == exported(tmp_path / "whole")
    assert logged(folder) == logged(tmp_path / "whole")


@pytest.mark.parametrize("delay", [0.3, 0.6])
def test_an_early_stop_has_no_traceback(
    processes: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path, delay: float
) -> None:
    command = ["train", str(photos), "--class-noun", "teapot", "--model", str(tiny_model), *as_options(LONG)]
    receiver, sender = processes.Pipe(duplex=False)
    process = start(processes, [*command, "--output", str(tmp_path / "run")], cache=tmp_path, errors=sender)
    time.sleep(delay)
    for _ in range(2):
        os.kill(process.pid or 0, signal.SIGINT)
    process.join(60)
    assert process.exitcode in (128 + signal.SIGINT, -signal.SIGINT, 1)  # 1: Python itself had not begun
    assert not receiver.poll() or "Traceback" not in receiver.recv()
