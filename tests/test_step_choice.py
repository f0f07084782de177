"""The best step of a run: scales, smoothing, the choice, and when more steps no longer gain."""

import random

import pytest

from lookforward.runs.step_choice import (
    Evaluation,
    Scale,
    candidates,
    choose,
    no_longer_gains,
    read_evaluations,
    smooth,
    write_evaluations,
)

SCALE = Scale(identity=(0.2, 0.8), prompt=(0.3, 0.1), weight=0.5)


def measured(*values: tuple[float, float], every: int = 10) -> list[Evaluation]:
    """identity and prompt of each measurement, the first of step 0."""
    return [Evaluation(every * i, identity, prompt, 0.1) for i, (identity, prompt) in enumerate(values)]


@pytest.mark.parametrize(
    ("identity", "prompt", "total"),
    [
        (0.2, 0.3, 0.0),  # the untouched model
        (0.8, 0.1, 0.0),  # the photos, whatever the prompt
        (0.8, 0.3, 1.0),
        (0.5, 0.2, 0.5),
        (0.8, 0.2, 2 / 3),  # 1 / (0.5 / 1 + 0.5 / 0.5)
        (0.9, 0.4, 1.0),  # beyond the ends
        (0.1, 0.3, 0.0),
    ],
)
def test_total_is_the_harmonic_mean_on_the_scales(identity: float, prompt: float, total: float) -> None:
    assert SCALE.total(Evaluation(1, identity, prompt, 0.0)) == pytest.approx(total)


def test_weight_moves_the_mean_towards_one_part() -> None:
    one = Evaluation(1, 0.8, 0.2, 0.0)  # parts 1 and 0.5
    assert Scale((0.2, 0.8), (0.3, 0.1), 0.9).total(one) == pytest.approx(1 / (0.9 + 0.1 / 0.5))


def test_ends_that_leave_nothing_to_tell_do_not_count() -> None:
    flat = Scale(identity=(0.2, 0.8), prompt=(0.3, 0.3), weight=0.5)
    assert flat.parts(Evaluation(1, 0.5, 0.1, 0.0)) == (pytest.approx(0.5), 1.0)


def test_smooth_weighs_neighbours_one_to_two() -> None:
    assert smooth([0.0, 1.0, 0.0]) == pytest.approx([1 / 3, 0.5, 1 / 3])
    assert smooth([0.4]) == [0.4]
    assert smooth([]) == []


def test_one_lucky_measurement_does_not_win() -> None:
    rows = measured((0.2, 0.3), (0.5, 0.3), (0.3, 0.3), (0.45, 0.3), (0.48, 0.3), (0.45, 0.3))
    assert choose(SCALE, rows).step == 40
    assert max(rows, key=SCALE.total).step == 10  # unsmoothed


def test_nothing_measured_is_no_choice() -> None:
    with pytest.raises(ValueError, match="no trained step"):
        choose(SCALE, measured((0.2, 0.3)))


@pytest.mark.parametrize("seed", range(40))
def test_what_is_kept_always_holds_the_final_choice(seed: int) -> None:
    draw = random.Random(seed)
    rows = measured(*((draw.uniform(0.2, 0.8), draw.uniform(0.1, 0.3)) for _ in range(12)))
    kept: set[int] = set()
    for i in range(2, len(rows) + 1):
        wanted = candidates(SCALE, rows[:i])
        assert wanted <= kept | {rows[i - 1].step}  # what was thrown away is never asked for again
        assert len(wanted) <= 2
        kept = wanted
    assert choose(SCALE, rows).step in kept


def test_patience_counts_measurements_since_the_best() -> None:
    rows = measured((0.2, 0.3), (0.4, 0.3), (0.7, 0.3), (0.6, 0.3), (0.4, 0.3), (0.3, 0.3))
    assert choose(SCALE, rows).step == 20
    assert no_longer_gains(SCALE, rows, 3)
    assert not no_longer_gains(SCALE, rows, 4)
    assert not no_longer_gains(SCALE, rows, 0)
    assert not no_longer_gains(SCALE, rows[:1], 1)


def test_file_keeps_them_in_order(tmp_path) -> None:
    rows = measured((0.2, 0.3), (0.4, 0.25))
    path = tmp_path / "evaluations.jsonl"
    assert read_evaluations(path) == []
    write_evaluations(path, rows[::-1])
    assert read_evaluations(path) == rows
