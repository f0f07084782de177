"""One option, one value."""

import pytest

from errors import raises
from lookforward.cli.once import check_given_once


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ("--steps 5 --run.steps 50", ("run.steps", "5", "50")),
        ("--learning-rate=1 --optimizer.learning-rate 2", ("optimizer.learning_rate", "1", "2")),
        ("--data.flip --data.no-flip", ("data.flip", "on", "off")),
        ("--seeds 1 2 --seeds 1 3", ("seeds", "1 2", "1 3")),
    ],
)
def test_two_values_are_an_error(words: str, facts: tuple[str, ...]) -> None:
    with raises("setting-twice", *facts):
        check_given_once(words.split())


@pytest.mark.parametrize(
    "words",
    [
        "photos --steps 5 --run.steps 5",
        "--steps 5 photos --steps 5",
        "--data.flip --data.flip photos",
        "--adapter a --adapter b",
        "--critic.steps 5 --run.steps 50",
    ],
)
def test_the_rest_is_none(words: str) -> None:
    check_given_once(words.split(), repeatable={"adapter.name"})
