"""Sums of rewards: how they are written, what they are worth, and the guard around each."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.errors import LookforwardError
from lookforward.rewards.checked import checked
from lookforward.rewards.dino import DinoReward
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.noise import NoiseReward
from lookforward.rewards.ssim import SsimReward
from lookforward.rewards.terms import format_terms, parse_terms
from lookforward.rewards.weighted import WeightedSum
from tiny import random_transition, seeded
from tiny_rewards import assert_gradient, mean_colour, pictures, with_images


class Fixed:
    """A reward that says what it was told to."""

    needs_image = False

    def __init__(self, values: Any, name: str = "fixed") -> None:
        self.values, self.name = values, name

    def __call__(self, transition: Transition) -> Tensor:
        return self.values


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("look-forward", ((1.0, "look-forward"),)),
        ("look-forward + 0.5*dino - 0.1*mymodule:f", ((1.0, "look-forward"), (0.5, "dino"), (-0.1, "mymodule:f"))),
        ("  0.5 * dino+2*ssim ", ((0.5, "dino"), (2.0, "ssim"))),
        ("-dino", ((-1.0, "dino"),)),
        ("+ .5*dino -1e-3*clip-text", ((0.5, "dino"), (-0.001, "clip-text"))),
        ("1E+2*dino - 3.*noise", ((100.0, "dino"), (-3.0, "noise"))),
        ("0*dino + my_package.sub:Class.f2", ((0.0, "dino"), (1.0, "my_package.sub:Class.f2"))),
        (
            "embedding:owner/name-v1.5 - embedding:../faces",
            ((1.0, "embedding:owner/name-v1.5"), (-1.0, "embedding:../faces")),
        ),
    ],
)
def test_sums_are_read(text: str, terms: tuple[tuple[float, str], ...]) -> None:
    assert parse_terms(text) == terms
    assert parse_terms(format_terms(terms)) == terms


def test_a_weight_of_one_is_not_written() -> None:
    assert format_terms(((-1.0, "dino"), (1.0, "ssim"), (-1.0, "noise"), (2.0, "f"))) == "-dino + ssim - noise + 2*f"


PARTS = st.from_regex(r"[a-z_]([a-z0-9_]|-[a-z0-9])*(:[a-z]+)?", fullmatch=True)
WEIGHTS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(WEIGHTS, PARTS), min_size=1, unique_by=lambda term: term[1]))
def test_sums_survive_the_round_trip(terms: list[tuple[float, str]]) -> None:
    assert parse_terms(format_terms(terms)) == tuple(terms)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "reward is empty"),
        ("  ", "reward is empty"),
        ("dino +", "a weight and \\*, or a reward's name, was expected at the end"),
        ("0.5*", "a reward's name was expected at the end"),
        ("0.5 dino", r"or a reward's name, was expected at '0\.5 dino'"),
        ("0.5", r"was expected at '0\.5'"),
        ("dino + + ssim", r"was expected at '\+ ssim'"),
        ("dino*0.5", r"\+ or - was expected at '\*0\.5'"),
        ("dino ssim", r"\+ or - was expected at 'ssim'"),
        ("dino, ssim", r"\+ or - was expected at ', ssim'"),
        ("2*3*dino", r"a reward's name was expected at '3\*dino'"),
        ("dino-0.5*ssim", r"expected at '\*ssim': a weight stands before .* a minus beside a space"),
        ("dino + 2*dino", r"dino stands in it twice"),
        ("1e999*dino", r"the weight 1e999 is too large"),
        ("nan*dino", r"\+ or - was expected at '\*dino'"),
    ],
)
def test_what_is_not_a_sum_is_refused(text: str, message: str) -> None:
    with pytest.raises(LookforwardError, match=message) as caught:
        parse_terms(text)
    assert "look-forward + 0.5*dino" in str(caught.value) or repr(text) in str(caught.value)


@given(
    weights=st.tuples(*[st.floats(-10, 10, width=32)] * 2),
    other=st.tuples(*[st.floats(-10, 10, width=32)] * 2),
)
def test_the_sum_is_linear_in_its_weights(weights: tuple[float, float], other: tuple[float, float]) -> None:
    transition = random_transition(seeded(), 4)

    def total(first: float, second: float) -> Tensor:
        return WeightedSum([(first, LookForwardReward()), (second, NoiseReward())])(transition)

    expected = weights[0] * LookForwardReward()(transition) + weights[1] * NoiseReward()(transition)
    scale = float(LookForwardReward()(transition).abs().max())
    torch.testing.assert_close(total(*weights), expected, rtol=1e-5, atol=1e-5)
    both = (weights[0] + other[0], weights[1] + other[1])
    torch.testing.assert_close(total(*both), total(*weights) + total(*other), rtol=1e-4, atol=1e-4 * scale)


def test_parts_are_without_weights_and_named() -> None:
    transition = with_images(pictures(side=16), pictures(side=16, seed=5))
    dino = DinoReward(mean_colour(), pictures(2, seed=6))
    reward = WeightedSum([(1.0, LookForwardReward()), (0.5, dino), (-0.25, SsimReward())])
    parts = reward.parts(transition)
    assert list(parts) == ["look-forward", "dino", "ssim"]
    torch.testing.assert_close(parts["dino"], dino(transition))
    torch.testing.assert_close(parts["ssim"], SsimReward()(transition))
    expected = LookForwardReward()(transition) + 0.5 * dino(transition) - 0.25 * SsimReward()(transition)
    torch.testing.assert_close(reward(transition), expected)
    torch.testing.assert_close(reward.total(parts), expected)
    assert reward.name == "look-forward + 0.5*dino - 0.25*ssim"
    assert reward.needs_image


def test_the_image_is_needed_only_where_a_part_needs_it() -> None:
    assert not WeightedSum([(1.0, LookForwardReward()), (2.0, NoiseReward())]).needs_image
    assert WeightedSum([(1.0, LookForwardReward()), (0.0, SsimReward())]).needs_image


def test_gradient_of_a_sum() -> None:
    photo = pictures(side=16, seed=5).double()
    dino = DinoReward(mean_colour().double(), photo)
    assert_gradient(WeightedSum([(2.0, dino), (-0.5, SsimReward())]), with_images(pictures(side=16), photo))


@pytest.mark.parametrize("terms", [[], [(1.0, NoiseReward()), (2.0, NoiseReward())]])
def test_a_sum_has_parts_of_distinct_names(terms: list[tuple[float, Reward]]) -> None:
    with pytest.raises(ValueError, match="distinct names"):
        WeightedSum(terms)


def test_the_guard_lets_good_values_pass() -> None:
    transition = random_transition(seeded(), 4)
    guarded = checked(NoiseReward())
    transition.action.requires_grad_(True)
    values = guarded(transition)
    torch.testing.assert_close(values, NoiseReward()(transition))
    assert values.requires_grad
    assert (guarded.name, guarded.needs_image) == ("noise", False)
    assert checked(SsimReward()).needs_image
    whole = checked(Fixed(torch.tensor([1, 2, 3, 4])))(transition)
    torch.testing.assert_close(whole, torch.tensor([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(4, 1), r"Reward 'fixed' returned shape \(4, 1\) for 4 images; return one number for each"),
        (torch.tensor(0.0), r"Reward 'fixed' returned shape \(\) for 4 images"),
        (torch.tensor([0.0, 1.0, float("nan"), 2.0]), r"Reward 'fixed' returned nan for image 3 of 4"),
        (torch.full((4,), float("-inf")), r"Reward 'fixed' returned -inf for image 1 of 4"),
        ([0.0] * 4, r"Reward 'fixed' returned a list, not a tensor"),
    ],
)
def test_the_guard_stops_bad_values(values: Any, message: str) -> None:
    with pytest.raises(LookforwardError, match=message) as caught:
        checked(Fixed(values))(random_transition(seeded(), 4))
    assert "give the same command again: it goes on from the last checkpoint" in str(caught.value)


def test_a_guarded_part_is_named_within_a_sum() -> None:
    bad = checked(Fixed(torch.full((4,), float("nan")), "bad"))
    with pytest.raises(LookforwardError, match="Reward 'bad' returned nan"):
        WeightedSum([(1.0, checked(NoiseReward())), (0.5, bad)])(random_transition(seeded(), 4))
