"""`python -m torture`: the table of all faults; its exit status is 1 if a single try is not as it should be."""

import argparse
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from torture.shim import KINDS, preload

Job = tuple[Callable[..., Any], tuple[Any, ...]]
NUMBERS = {  # what `make torture` tries
    "kills": (200, "processes killed, a third of them while they save"),
    "calls": (0, "of each kind of system call that fails; 0: every one"),
    "damages": (1000, "flipped bits and cut files"),
    "nans": (9, "sites of a NaN"),
    "images": (500, "hostile images"),
    "names": (100, "hostile names"),
    "models": (50, "hostile model folders"),
    "users": (10, "times two users meet in one folder"),
}
DAMAGED = {"checkpoint": 0.3, "export": 0.25, "cache": 0.15, "cell": 0.15, "log": 0.15}
NONE = -1  # of `calls`, where 0 means all


def main() -> int:
    asked = _parse()
    preload()
    started = time.monotonic()
    for key, value in (("OMP_NUM_THREADS", "1"), ("TRANSFORMERS_VERBOSITY", "error"), ("HF_HUB_OFFLINE", "1")):
        os.environ[key] = value
    from torture.outcome import problems, put_between, table
    from torture.world import make_world

    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        world = make_world(Path(name), short=asked.short)
        if asked.times:
            print(f"{_cpu():6.2f} s to begin with; a run takes {world.seconds:.1f}", file=sys.stderr)
        context = multiprocessing.get_context("fork")
        jobs, done = list(_jobs(asked, world)), {}
        order = random.Random(asked.seed).sample(range(len(jobs)), len(jobs))  # so that a part has some of each kind
        with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
            waiting = {pool.submit(_timed, *jobs[i]): i for i in order}
            for one in as_completed(waiting):
                if one.cancelled():
                    continue
                outcomes, seconds = done[waiting[one]] = one.result()
                if asked.times:
                    print(f"{seconds:6.2f} s for {len(outcomes)} × {outcomes[0].fault}", file=sys.stderr, flush=True)
                for line in problems(outcomes):
                    print(line, file=sys.stderr, flush=True)
                if asked.minutes and time.monotonic() - started > 60 * asked.minutes:
                    for other in waiting:
                        other.cancel()
    outcomes = [one for i in sorted(done) for one in done[i][0]]
    result = f"{table(outcomes)}\n\n{_how(asked, (time.monotonic() - started) / 60, len(done), len(jobs))}"
    print(result)
    if asked.into:
        put_between(asked.into, result)
    return 0 if all(one.good for one in outcomes) else 1


def _how(asked: argparse.Namespace, minutes: float, done: int, parts: int) -> str:
    """The line below the table: what was asked for, and what it took."""
    words, own = sys.argv[1:], ("--into", "--workers")
    kept = [word for i, word in enumerate(words) if word not in own and (not i or words[i - 1] not in own)]
    options = " ".join(kept)
    given = f' with TORTURE="{options}"' if options else ""
    left = f" {parts - done} of {parts} parts were not begun." if done < parts else ""
    return f"`make torture`{given}: {minutes:.0f} minutes, {asked.workers} processes, seed {asked.seed}.{left}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    for name, (number, about) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=number, help=f"{about} ({number})")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing after so many; 0: try everything")
    parser.add_argument("--only", action="store_true", help="leave out whatever is not given a number")
    parser.add_argument("--times", action="store_true", help="say what each part took of a core")
    parser.add_argument("--call", default="", choices=KINDS, help="let calls of this kind alone fail")
    parser.add_argument("--short", action="store_true", help="runs of fewer steps")
    parser.add_argument("--into", type=Path, help="a page whose table is replaced, such as docs/reliability.md")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--seed", type=int, default=0, help="of what is hit, and when")
    asked = parser.parse_args()
    if asked.only:
        for name in NUMBERS:
            if f"--{name}" not in sys.argv:
                setattr(asked, name, NONE if name == "calls" else 0)
    return asked


def _jobs(asked: argparse.Namespace, world: Any) -> Iterator[Job]:
    from torture import damage, failing, hostile, kills, sites

    for i, count in _parts(asked.kills, 3):
        yield kills.kills, (world, 1000 * asked.seed + i, count)
    if not world.calls and asked.calls != NONE:
        print("Without a C compiler on Linux, no system call is made to fail.", file=sys.stderr)
    for kind, number in world.calls.items() if asked.calls != NONE else ():
        if asked.call not in ("", kind):
            continue
        step = -(-number // asked.calls) if asked.calls else 1
        for k in range(1 + step // 2, number + 1, step):
            yield failing.failing, (world, kind, [k])
    for kind, share in DAMAGED.items():
        for i, count in _parts(round(share * asked.damages), 50):
            yield damage.damage, (world, kind, 1000 * asked.seed + i, count)
    for site in list(sites.SITES)[: asked.nans]:
        yield sites.not_finite, (world, site)
    for work, number, size in (
        (hostile.images, asked.images, 25),
        (hostile.names, asked.names, 5),
        (hostile.models, asked.models, 5),
        (kills.two_users, asked.users, 1),
    ):
        for i, count in _parts(number, size):
            yield work, (world, 1000 * asked.seed + i, count)


def _timed(work: Callable[..., Any], given: tuple[Any, ...]) -> tuple[Any, float]:
    """What came of a part, and the seconds that it took of a core."""
    before = _cpu()
    return work(*given), _cpu() - before


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _parts(number: int, size: int) -> Iterator[tuple[int, int]]:
    for i, start in enumerate(range(0, number, size)):
        yield i, min(size, number - start)


if __name__ == "__main__":
    sys.exit(main())
