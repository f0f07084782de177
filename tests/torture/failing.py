"""System calls that fail, one after the other: writes, flushes and renames of a run, its caches and its export."""

import shutil
from pathlib import Path

from torture.forked import in_fork
from torture.outcome import Outcome
from torture.shim import arm
from torture.world import World, same_result, train


def failing(world: World, kind: str, numbers: list[int]) -> list[Outcome]:
    """Let the k-th call of a kind fail, for each k: even ones for good (a full disk), odd ones once."""
    outcomes = []
    for k in numbers:
        place = world.new(f"{kind}-{k}")

        def run(k: int = k, place: Path = place) -> None:
            arm(place, kind, k, lasting=k % 2 == 0)
            train(world, place)

        ended = in_fork(run)
        noticed = ended.status == 2 and "cannot be" in ended.text
        again = in_fork(lambda where=place: train(world, where))
        differs = again.text[-400:] if again.status else same_result(world, place)
        note = f"k = {k}: {ended.status} {ended.text[-400:]} | {differs}"
        outcomes.append(
            Outcome(f"{kind} fails", noticed, not differs, bool(differs), ended.traceback or again.traceback, note)
        )
        shutil.rmtree(place, ignore_errors=True)
    return outcomes
