"""docs/rewards.md: its examples run, and its table has every reward."""

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lookforward.core.specs import Resources
from lookforward.models.encoders import Encoders
from lookforward.rewards import REWARDS
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.rewards.terms import format_terms, parse_terms
from tiny_rewards import assert_gradient, flat, pictures, with_images

DOCS = Path(__file__).parents[1] / "docs"
PAGE, GUIDE = ((DOCS / name).read_text(encoding="utf-8") for name in ("rewards.md", "guides/reward.md"))


def _code(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


CODE = _code(PAGE)
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


def test_the_example_of_a_plugin_runs() -> None:
    (code,) = [code for code in _code(GUIDE) if "PIXEL" in code]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/guides/reward.md", "exec"), names)
    reward = names["PIXEL"].build("pixel", Resources(Encoders({}), pictures(1)))
    photo = flat((0, 0, 0), (0.5, 0.5, 0.5))
    values = reward(with_images(flat((1, 1, 1), (0.5, 0.5, 0.5)), photo))
    torch.testing.assert_close(values, torch.tensor([-1.0, 0.0]))
    assert_gradient(reward, with_images(pictures(), pictures(seed=5).double()))


def test_the_examples_of_a_sum_parse() -> None:
    sums = [tomllib.loads(text)["objective"]["reward"] for text in TOML]
    assert [[name for _, name in parse_terms(text)] for text in sums] == [
        ["look-forward", "dino", "colourful:colourful"],
        ["colourful:colourful"],
    ]
    assert [format_terms(parse_terms(text)) for text in sums] == sums


def test_every_reward_has_its_row() -> None:
    assert [*dict.fromkeys(NAMES)] == NAMES
    assert set(NAMES) == {spec.written for spec in REWARDS} | {"module:function"}
    ranges = dict(re.findall(r"^\| `([^`]+)` \|[^|]+\| ([^|]+) \|", PAGE, re.MULTILINE))
    assert {spec.written: spec.range for spec in REWARDS} == {n: r for n, r in ranges.items() if n != "module:function"}
