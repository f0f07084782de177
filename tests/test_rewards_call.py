"""A function of the user's own as a reward, and what is said where it is wrong."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from errors import raises
from lookforward.rewards.call import CallableReward, load_callable
from tiny_rewards import PROMPTS, pictures, with_images


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def reward(function: Callable[[Tensor, Sequence[str]], Any]) -> CallableReward:
    return CallableReward(function, "mymodule:colourful")


RETURNED: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda means: means,
    "double tensor with a gradient": lambda means: means.double().requires_grad_(True),
    "array": lambda means: means.numpy().astype(np.float64),
    "list": lambda means: means.tolist(),
    "tuple of tensors": lambda means: tuple(means),
    "list of NumPy's numbers": lambda means: list(means.numpy()),
}


@pytest.mark.parametrize("form", RETURNED)
def test_many_forms_of_answer(form: str) -> None:
    images = pictures()
    values = reward(lambda x, _: RETURNED[form](x.mean(dim=(1, 2, 3))))(with_images(images))
    torch.testing.assert_close(values, images.mean(dim=(1, 2, 3)))
    assert values.dtype == torch.float32
    assert not values.requires_grad


@pytest.mark.parametrize(
    "answer", [[True, False, True], torch.tensor([True, False, True]), np.array([1, 0, 1]), (1, 0, 1)]
)
def test_truth_values_and_whole_numbers_are_rewards(answer: Any) -> None:
    values = reward(lambda *_: answer)(with_images(pictures()))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.0, 1.0]))


def test_what_the_function_gets() -> None:
    image = pictures().requires_grad_(True)
    seen: list[tuple[Tensor, Sequence[str]]] = []

    def look(images: Tensor, prompts: Sequence[str]) -> list[float]:
        assert not torch.is_grad_enabled()
        seen.append((images.clone(), prompts))
        images.zero_()  # its own copy
        return [0.0] * len(images)

    kept = image.detach().clone()
    reward(look)(with_images(image))
    ((images, prompts),) = seen
    torch.testing.assert_close(images, kept)
    assert (images.dtype, images.requires_grad, images.device.type) == (torch.float32, False, "cpu")
    assert prompts == PROMPTS
    assert torch.equal(image.detach(), kept)
    reward(look)(with_images(image.double()))
    assert seen[1][0].dtype == torch.float32


WRONG: list[tuple[Any, str]] = [
    (torch.zeros(3, 2), "(3, 2) for 3 images"),
    (0.5, "() for 3 images"),
    ([1.0, 2.0], "(2,) for 3 images"),
    ([1.0, float("nan"), 2.0], "nan for image 2 of 3"),
    ([1.0, 2.0, -float("inf")], "-inf for image 3 of 3"),
    (np.array([1e300, 0, 0]), "inf for image 1 of 3"),  # beyond single precision
    (None, "NoneType"),
    (["a", "b", "c"], "list"),
    ([[1.0], [2.0, 3.0], [4.0]], "list"),
    (torch.zeros(3, dtype=torch.complex64), "complex"),
]


@pytest.mark.parametrize(("answer", "fact"), WRONG)
def test_wrong_answers_are_named(answer: Any, fact: str) -> None:
    with raises("reward-values", "mymodule:colourful", fact):
        reward(lambda *_: answer)(with_images(pictures()))


def test_an_answer_for_one_image_needs_a_shape_too() -> None:
    with raises("reward-values", "() for 1 image;"):
        reward(lambda *_: 0.5)(with_images(pictures(1)))


def test_an_exception_is_reported_with_its_place_and_kept(here: Path) -> None:
    (here / "broken.py").write_text("def f(images, prompts):\n    x = 1\n    return [x / 0 for _ in prompts]\n")
    function = load_callable("broken:f")
    with raises("reward-failed", "broken:f", "ZeroDivisionError: division by zero (broken.py, line 3)") as caught:
        CallableReward(function, "broken:f")(with_images(pictures()))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_stop_by_the_user_is_not_an_error_of_the_function() -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reward(interrupted)(with_images(pictures()))


def test_functions_come_from_the_current_folder(here: Path) -> None:
    (here / "palette.py").write_text("FACTOR = 3.0\n")
    (here / "bright.py").write_text(
        "def bright(images, prompts):\n"
        "    from palette import FACTOR\n"  # a neighbour, later
        "    return FACTOR * images.mean(dim=(1, 2, 3))\n"
    )
    (here / "deep").mkdir()
    (here / "deep" / "dark.py").write_text(
        "class Dark:\n    @staticmethod\n    def dark(a, b): return [-1.0] * len(a)\n"
    )
    images = pictures()
    values = CallableReward(load_callable("bright:bright"), "bright")(with_images(images))
    torch.testing.assert_close(values, 3 * images.mean(dim=(1, 2, 3)))
    values = CallableReward(load_callable("deep.dark:Dark.dark"), "dark")(with_images(images))
    torch.testing.assert_close(values, torch.full((3,), -1.0))
    assert load_callable("math:dist")([0], [1]) == 1  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("spec", "code", "fact"),
    [
        ("colourful", "function-form", "module:function"),
        (":f", "function-form", ":f"),
        ("good:", "function-form", "good:"),
        ("absent:f", "module-missing", "absent.py"),
        ("absent.part:f", "module-missing", "absent/part.py"),
        ("good.part:f", "module-missing", "good.part"),
        ("good.py:colourful", "module-missing", "good:colourful"),
        ("good:colorful", "function-missing", "colourful"),
        ("good:zzz", "function-missing", "colourful, one"),
        ("empty:f", "function-missing", "empty.py"),
        ("good:NUMBER", "function-missing", "int"),
        ("good:one", "function-arguments", "(images)"),
        ("needy:f", "module-broken", "no_such_package_here"),
        ("typo:f", "module-broken", "typo.py, line 1"),
        ("fails:f", "module-broken", "RuntimeError: no luck (fails.py, line 2)"),
    ],
)
def test_names_of_no_function(spec: str, code: str, fact: str, here: Path) -> None:
    (here / "good.py").write_text(
        "from math import dist\nNUMBER = 1\ndef colourful(images, prompts): ...\ndef one(images): ...\n"
    )
    (here / "empty.py").write_text("")
    (here / "needy.py").write_text("import no_such_package_here\n")
    (here / "typo.py").write_text("def f(images, prompts: ...\n")
    (here / "fails.py").write_text("\nraise RuntimeError('no luck')\n")
    with raises(code, fact):
        load_callable(spec)
