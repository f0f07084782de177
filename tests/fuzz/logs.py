"""Logs of a run: `metrics.jsonl` and `evaluations.jsonl`, as they are and with seals that fit."""

from types import SimpleNamespace
from typing import Any

from fuzz.common import attempt, fresh
from lookforward.assembly.best_step import BestStep
from lookforward.config.reading import structure
from lookforward.config.settings import Settings
from lookforward.runs.folder import Run
from lookforward.runs.step_choice import Scale, no_longer_gains, read_evaluations
from lookforward.seals import KEY

_LAST = 4  # step of the checkpoint that a run goes on from


def _sealed(data: bytes) -> bytes:
    """Each line with the seal of what it holds."""
    import zlib

    def seal(line: bytes) -> bytes:
        body = line.strip()
        if not body.endswith(b"}") or len(body) < 3:
            return line
        return body[:-1] + f', "{KEY}": {zlib.crc32(body)}}}\n'.encode()

    return b"".join(map(seal, data.splitlines(keepends=True)))


def metrics(data: bytes) -> None:
    """`metrics.jsonl`, read as a report does and as a run that goes on does, which then must be able to read it."""
    run = Run(fresh("run"), Settings())
    run.metrics.write_bytes(data)
    run.forget_after(_LAST)
    assert all(1 <= row["step"] <= _LAST for row in run.read_metrics())
    run.log({"step": _LAST + 1, "loss": 0.5})
    assert run.read_metrics()[-1]["loss"] == 0.5
    run.metrics.write_bytes(data)
    run.read_metrics()


def sealed_metrics(data: bytes) -> None:
    metrics(_sealed(data))


def evaluations(data: bytes) -> None:
    """`evaluations.jsonl`, and the choice of the best step from it."""
    run = Run(fresh("run"), Settings())
    run.evaluations.write_bytes(data)
    run.candidates.mkdir()
    for step in range(6):
        (run.candidates / f"step-{step:06d}.safetensors").write_bytes(b"")
    settings = structure({"evaluation": {"every": 1}, "run": {"steps": _LAST}}, "settings")
    scale = Scale((0.1, 0.9), (0.3, 0.1))
    validation: Any = SimpleNamespace(scale=lambda untouched: scale if untouched.step == 0 else None)
    BestStep(settings, validation).choice(run, _LAST)
    no_longer_gains(scale, read_evaluations(run.evaluations), 2)


def sealed_evaluations(data: bytes) -> None:
    evaluations(_sealed(data))


READERS = (metrics, sealed_metrics, evaluations, sealed_evaluations)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
