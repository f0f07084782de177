"""Kills (SIGKILL) at any time, a third of them at a change of a file; and two users in one folder."""

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

from lookforward.runs.checkpoint import list_checkpoints
from torture.forked import Ended, in_fork
from torture.outcome import Outcome
from torture.world import EVERY, World, same_result, train

FINISH = 0.35  # of the kills, after which the run is finished and compared
NOBODY = 65534


def kills(world: World, seed: int, count: int) -> list[Outcome]:
    """`count` kills, of runs that go on after it, are killed again, and are at last compared."""
    rng, outcomes, pending = random.Random(seed), list[Outcome](), list[Outcome]()
    place = world.new(f"kills-{seed}")
    while len(outcomes) + len(pending) < count:
        aimed = (len(outcomes) + len(pending)) % 3 == 0
        ended = _killed(world, place, aimed, rng)
        if ended.status == -signal.SIGKILL:
            pending.append(_after_kill(place, "kill while saving" if aimed else "kill at any time", ended))
        if ended.status == 0 or rng.random() < FINISH:
            outcomes += _finish(world, place, pending)
            pending, place = [], world.new(f"kills-{seed}")
        elif ended.status != -signal.SIGKILL:
            outcomes.append(Outcome("kill at any time", survived=False, note=ended.text[-500:]))
            pending, place = [], world.new(f"kills-{seed}")
    return outcomes + _finish(world, place, pending)


def _killed(world: World, place: Path, aimed: bool, rng: random.Random) -> Ended:
    if aimed:
        left = world.changes // 2 if (place / "run" / "checkpoints").exists() else world.changes
        number = rng.randint(1, left)
        return in_fork(lambda: train(world, place, die_before=number))
    return in_fork(lambda: train(world, place), after=rng.uniform(0, world.seconds))


def _after_kill(place: Path, fault: str, ended: Ended) -> Outcome:
    run = place / "run"
    found = list_checkpoints(run / "checkpoints")
    saved = int(found[-1].name.removeprefix("step-")) if found else 0
    log = run / "metrics.jsonl"
    done = log.read_bytes().count(b"\n") if log.is_file() else 0
    lost = done - saved > EVERY
    return Outcome(fault, lost=lost, traceback=ended.traceback, note=f"{done} steps done, {saved} saved")


def _finish(world: World, place: Path, pending: list[Outcome]) -> list[Outcome]:
    ended = in_fork(lambda: train(world, place))
    differs = ended.text[-500:] if ended.status else same_result(world, place)
    if not differs:
        return pending
    return [replace(one, survived=False, lost=True, traceback=ended.traceback, note=differs) for one in pending]


def two_users(world: World, seed: int, count: int) -> list[Outcome]:
    """While one trains in a folder, another user starts the same command there.

    Only root can be another user, and only where that user may read the interpreter's files; else it is the same one.
    """
    outcomes = []
    for number in range(count):
        place = world.new(f"users-{seed}-{number}")
        for path in (place, *place.parents[:3]):
            path.chmod(0o777)
        first = os.fork()
        if first == 0:
            os.setpgid(0, 0)
            os._exit(in_fork(lambda where=place: train(world, where)).status & 255)
        lock = place / "run" / ".lock"
        while not lock.exists():
            time.sleep(0.005)
        time.sleep(0.1)  # from the file to the lock on it
        os.killpg(first, signal.SIGSTOP)  # it holds the folder until the second has tried
        user = NOBODY if os.getuid() == 0 and _all_may_read(Path(os.__file__)) else None
        second = in_fork(lambda where=place: train(world, where), user=user)
        os.killpg(first, signal.SIGCONT)
        _, status = os.waitpid(first, 0)
        kept_out = second.status == 2 and not second.traceback
        differs = same_result(world, place) if status == 0 else f"the first ended with {status}"
        note = f"{second.status}: {second.text[-300:]} {differs}"
        outcomes.append(
            Outcome(
                "two users in one folder", kept_out, kept_out and not differs, bool(differs), second.traceback, note
            )
        )
    return outcomes


def _all_may_read(path: Path) -> bool:
    """Whether every user may enter the folders of a file, and read it."""
    return bool(path.stat().st_mode & 0o004) and all(one.stat().st_mode & 0o001 for one in path.parents)
