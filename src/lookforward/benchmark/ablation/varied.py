"""What an ablation varies: the table of ablations, and the grid of one."""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lookforward.benchmark.grid import Plan
from lookforward.benchmark.methods import require_shared
from lookforward.config.recipe import load_settings
from lookforward.errors import LookforwardError

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Ablation:
    """What is varied over one recipe.

    varies: in a few words. recipe: the base. values: label to overrides. common: settings that all values share.
    number: the setting that all values set, where it is a number, and symbol what labels call it; empty otherwise.
    baseline: the label that the others' reward is compared with, where all have the same reward; empty for none.
    shown: the subject on the sheet, where it is among those asked for.
    """

    name: str
    varies: str
    recipe: str
    values: Mapping[str, Overrides]
    common: Overrides
    number: str = ""
    symbol: str = ""
    baseline: str = ""
    shown: str = ""


def _numeric(
    name: str, varies: str, recipe: str, number: str, symbol: str, values: Sequence[float], shown: str = ""
) -> Ablation:
    labels = {_label(symbol, value): {number: value} for value in values}
    return Ablation(name, varies, recipe, labels, {}, number, symbol, shown=shown)


def _label(symbol: str, value: float) -> str:
    return f"{symbol} = {value:.10g}"


# Returns on one scale, so that λ means the same whatever they are sums of
_SCALED = {"critic.bins": 1, "critic.weight": 0.5}
_ADAM = {"critic.optimizer": "adam", "critic.learning_rate": 1e-3}
_IS_BRIGHT = "lookforward.examples.rewards:is_bright"

ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        _numeric(
            "discount", "the discount γ (Table 4)", "look-forward", "objective.discount", "γ", (1.0, 0.9986, 0.99, 0.9)
        ),
        _numeric(
            "critic-weight", "the weight λ of the DINO reward's critic (Table 5, Figure 6)", "dino", "critic.weight",
            "λ", (0.1, 0.3, 1.0, 3.0, 10.0), shown="toy-1",
        ),
        Ablation(
            "target", "the critic's target (Eqs. 4 and 9), where later states follow from the action", "look-forward",
            {kind: {"critic.target": kind} for kind in ("one-step", "monte-carlo", "bootstrap")},
            {**_SCALED, "objective.transition": "policy"},
        ),
        Ablation(
            "transition", "where an action leads, with the target of Eq. 9", "look-forward",
            {kind: {"objective.transition": kind} for kind in ("reference", "policy")},
            {**_SCALED, "critic.target": "bootstrap"},
        ),
        Ablation(
            "critic", "what the critic sees", "dino",
            {kind: {"critic.name": kind} for kind in ("residual", "state-action")},
            _ADAM,
        ),
        Ablation(
            "reward", "the reward, all else alike", "look-forward+dino",
            {reward: {"objective.reward": reward} for reward in (
                "look-forward", "dino", "look-forward + dino", "look-forward + clip-text",
            )},
            {},
        ),
        _numeric(
            "scale", "in how many ranges of timesteps returns are brought to one scale; 0: as they are",
            "look-forward+dino", "critic.bins", "bins", (0, 1, 20),
        ),
        Ablation(
            "frozen", "whether the critic learns, of a reward without a gradient (section 3.4)", "look-forward",
            {"critic learns": {"critic.steps": 4}, "critic never learns": {"critic.steps": 0}},
            {
                "objective.reward": _IS_BRIGHT, "critic.name": "state-action", "critic.bins": 1, "critic.weight": 0.3,
                **_ADAM,
            },
            baseline="critic never learns",
        ),
    )
}  # fmt: skip


def find_ablation(name: str) -> Ablation:
    """An ablation by name.

    Raises:
        LookforwardError: there is none of that name; it lists those there are.
    """
    if name not in ABLATIONS:
        width = max(map(len, ABLATIONS))
        there = "".join(f"\n  {a.name:{width}}  {a.varies}" for a in ABLATIONS.values())
        raise LookforwardError(f"There is no ablation {name!r}. There are:{there}")
    return ABLATIONS[name]


def with_values(ablation: Ablation, words: Sequence[str]) -> Ablation:
    """The same with other numbers, as they were written; without any, as it is.

    Raises:
        LookforwardError: it does not vary a number, or a word is none.
    """
    if not words:
        return ablation
    if not ablation.number:
        numeric = ", ".join(a.name for a in ABLATIONS.values() if a.number)
        raise LookforwardError(
            f"--values is for ablations of a number ({numeric}); {ablation.name} has {', '.join(ablation.values)}."
        )
    numbers = [_number(word, ablation) for word in words]
    return replace(ablation, values={_label(ablation.symbol, n): {ablation.number: n} for n in numbers})


def _number(word: str, ablation: Ablation) -> float:
    try:
        value = tomllib.loads(f"x = {word}")["x"]
    except tomllib.TOMLDecodeError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LookforwardError(f"--values {word}: {ablation.symbol} of {ablation.name} is a number, such as 0.5.")
    return value


def method_of(ablation: Ablation, label: str) -> str:
    """The name of a value's cells: what a file may be called."""
    words = label.removeprefix(f"{ablation.symbol} = ").replace(" + ", "+").replace(" ", "-")
    return f"{ablation.name}-{re.sub(r'[^A-Za-z0-9.+-]', '', words)}"


def plan_ablation(
    ablation: Ablation,
    subjects: Sequence[str],
    seeds: Sequence[int],
    overrides: Overrides,
    *,
    images: int = 1,
    count: int | None = None,
) -> Plan:
    """The grid of an ablation. overrides: over the recipe and what all values share. count: of prompts.

    Raises:
        LookforwardError: a setting is wrong or of another model, or `overrides` set what is varied.
    """
    methods = {}
    for label, values in ablation.values.items():
        both = sorted(values.keys() & overrides.keys())
        if both:
            raise LookforwardError(f"{', '.join(both)}: that is what {ablation.name} varies; leave it out.")
        settings = {**ablation.common, **overrides, **values}
        require_shared(load_settings(ablation.recipe, settings))
        methods[method_of(ablation, label)] = (ablation.recipe, settings)
    return Plan(tuple(subjects), methods, tuple(seeds), None, images, count)
