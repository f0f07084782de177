"""One option, one value, and none for a switch."""

import pytest

from errors import raises
from lookforward.cli.once import check_given_once, check_switches


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


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("photos --data.captions false --dry-run", "--data.no-captions"),
        ("--adapter.train-text-encoder=off", "--adapter.no-train-text-encoder"),
        ("--data.flip True", "--data.flip "),
        ("--data.no-captions false", "--data.captions "),
        ("--data.no-captions true", "--data.no-captions "),
    ],
)
def test_a_switch_takes_no_value(words: str, remedy: str) -> None:
    with raises("switch-value", remedy):
        check_switches(words.split())


@pytest.mark.parametrize("words", ["--data.flip photos", "--data.crops 1", "--dry-run false", "false --data.flip"])
def test_other_words_are_no_value_of_a_switch(words: str) -> None:
    check_switches(words.split())
