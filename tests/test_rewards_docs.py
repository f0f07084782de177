"""docs/rewards.md: its examples run, and its table has every reward."""

import importlib
import pkgutil
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lookforward.rewards
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.rewards.terms import format_terms, parse_terms
from tiny_rewards import flat, with_images

PAGE = (Path(__file__).parents[1] / "docs" / "rewards.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TOML = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAMES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


@pytest.fixture
def colourful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The function as a user would write it down."""
    (code,) = [code for code in CODE if code.startswith("# colourful.py")]
    (tmp_path / "colourful.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "colourful", raising=False)
    function = load_callable("colourful:colourful")
    monkeypatch.delitem(sys.modules, "colourful")
    return function


def test_the_example_of_a_function_runs(colourful: Callable[..., Any]) -> None:
    reward = CallableReward(colourful, "colourful:colourful")
    images = flat((0.5, 0.5, 0.5), (0.75, 0.5, 0.5), (1, 0, 0))
    torch.testing.assert_close(reward(with_images(images)), torch.tensor([0.0, 0.25, 1.0]))


def test_the_examples_of_a_sum_parse() -> None:
    sums = [tomllib.loads(text)["objective"]["reward"] for text in TOML]
    assert [[name for _, name in parse_terms(text)] for text in sums] == [
        ["look-forward", "dino", "colourful:colourful"],
        ["colourful:colourful"],
    ]
    assert [format_terms(parse_terms(text)) for text in sums] == sums


def test_every_reward_has_its_row() -> None:
    written = set()
    for module in pkgutil.iter_modules(lookforward.rewards.__path__):
        for value in vars(importlib.import_module(f"lookforward.rewards.{module.name}")).values():
            if isinstance(value, type) and isinstance(getattr(value, "name", None), str):
                written.add(value.name)
    assert len(written) >= 9
    assert written | {"embedding:MODEL", "module:function"} == set(NAMES)
    assert len(NAMES) == len(set(NAMES))
