"""Sums of rewards: how they are written, what they are worth, and the guard around each."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from errors import raises
from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.models.encoders.similarity import Similarity
from lookforward.rewards.checked import CheckedReward
from lookforward.rewards.image import ImageReward, PhotoReward
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.noise import NoiseReward
from lookforward.rewards.ssim import ssim
from lookforward.rewards.terms import format_terms, parse_terms
from lookforward.rewards.weighted import WeightedSum
from tiny import random_transition, seeded
from tiny_rewards import assert_gradient, mean_colour, pictures, with_images

SSIM_REWARD = PhotoReward("ssim", ssim)


class Fixed:
    """A reward that says what it is configured to."""

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
    ("text", "code", "fact"),
    [
        ("", "reward-syntax", "empty"),
        ("  ", "reward-syntax", "empty"),
        ("dino +", "reward-syntax", "at the end"),
        ("0.5*", "reward-syntax", "at the end"),
        ("0.5 dino", "reward-syntax", "at '0.5 dino'"),
        ("0.5", "reward-syntax", "at '0.5'"),
        ("dino + + ssim", "reward-syntax", "at '+ ssim'"),
        ("dino*0.5", "reward-syntax", "at '*0.5'"),
        ("dino ssim", "reward-syntax", "at 'ssim'"),
        ("dino, ssim", "reward-syntax", "at ', ssim'"),
        ("2*3*dino", "reward-syntax", "at '3*dino'"),
        ("dino-0.5*ssim", "reward-syntax", "'*ssim'"),
        ("dino + 2*dino", "reward-twice", "2*dino"),
        ("1e999*dino", "reward-weight", "1e999"),
        ("nan*dino", "reward-syntax", "at '*dino'"),
    ],
)
def test_what_is_not_a_sum_is_refused(text: str, code: str, fact: str) -> None:
    with raises(code, fact):
        parse_terms(text)


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
    dino = ImageReward("dino", Similarity(mean_colour(), pictures(2, seed=6)))
    reward = WeightedSum([(1.0, LookForwardReward()), (0.5, dino), (-0.25, SSIM_REWARD)])
    parts = reward.parts(transition)
    assert list(parts) == ["look-forward", "dino", "ssim"]
    torch.testing.assert_close(parts["dino"], dino(transition))
    torch.testing.assert_close(parts["ssim"], SSIM_REWARD(transition))
    expected = LookForwardReward()(transition) + 0.5 * dino(transition) - 0.25 * SSIM_REWARD(transition)
    torch.testing.assert_close(reward(transition), expected)
    torch.testing.assert_close(reward.total(parts), expected)
    assert reward.name == "look-forward + 0.5*dino - 0.25*ssim"
    assert reward.needs_image


def test_the_image_is_needed_only_where_a_part_needs_it() -> None:
    assert not WeightedSum([(1.0, LookForwardReward()), (2.0, NoiseReward())]).needs_image
    assert WeightedSum([(1.0, LookForwardReward()), (0.0, SSIM_REWARD)]).needs_image


def test_gradient_of_a_sum() -> None:
    photo = pictures(side=16, seed=5).double()
    dino = ImageReward("dino", Similarity(mean_colour().double(), photo))
    assert_gradient(WeightedSum([(2.0, dino), (-0.5, SSIM_REWARD)]), with_images(pictures(side=16), photo))


@pytest.mark.parametrize("terms", [[], [(1.0, NoiseReward()), (2.0, NoiseReward())]])
def test_a_sum_has_parts_of_distinct_names(terms: list[tuple[float, Reward]]) -> None:
    with pytest.raises(ValueError, match="distinct names"):
        WeightedSum(terms)


def test_the_guard_lets_good_values_pass() -> None:
    transition = random_transition(seeded(), 4)
    guarded = CheckedReward(NoiseReward())
    transition.action.requires_grad_(True)
    values = guarded(transition)
    torch.testing.assert_close(values, NoiseReward()(transition))
    assert values.requires_grad
    assert (guarded.name, guarded.needs_image) == ("noise", False)
    assert CheckedReward(SSIM_REWARD).needs_image
    whole = CheckedReward(Fixed(torch.tensor([1, 2, 3, 4])))(transition)
    torch.testing.assert_close(whole, torch.tensor([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        (torch.zeros(4, 1), "(4, 1) for 4 images"),
        (torch.tensor(0.0), "() for 4 images"),
        (torch.tensor([0.0, 1.0, float("nan"), 2.0]), "nan for image 3 of 4"),
        (torch.full((4,), float("-inf")), "-inf for image 1 of 4"),
        ([0.0] * 4, "list"),
    ],
)
def test_the_guard_stops_bad_values(values: Any, fact: str) -> None:
    with raises("reward-values", "fixed", fact):
        CheckedReward(Fixed(values))(random_transition(seeded(), 4))


def test_a_guarded_part_is_named_within_a_sum() -> None:
    bad = CheckedReward(Fixed(torch.full((4,), float("nan")), "bad"))
    with raises("reward-values", "bad", "nan"):
        WeightedSum([(1.0, CheckedReward(NoiseReward())), (0.5, bad)])(random_transition(seeded(), 4))
