"""One thing varied over one recipe on Toybox: Tables 4 and 5 and Figures 5 and 6 of the paper, and more.

The paper varies γ on one clock and λ of the DINO reward on one toy, a robot; here each is varied on all ten
development subjects. Toybox's clock is a test subject, and its robot is toy-1.
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lookforward.benchmark.datasets.find import bundled_dataset
from lookforward.benchmark.methods import require_shared
from lookforward.benchmark.plan import Plan
from lookforward.bundle import TOYBOX
from lookforward.config.recipe import load_settings
from lookforward.errors import LookforwardError

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Ablation:
    """What is varied over one recipe.

    varies: in a few words. recipe: the base. values: label to overrides. common: settings that all values share.
    number: the setting that all values set, if it is a number; symbol: what labels call it. baseline: the label with
    which the others' reward is compared, if all have the same reward. shown: the subject on the sheet, if planned.
    """

    name: str
    varies: str
    recipe: str
    values: Mapping[str, Overrides]
    common: Overrides = field(default_factory=dict)
    number: str = ""
    symbol: str = ""
    baseline: str = ""
    shown: str = ""


def _numbers(number: str, symbol: str, values: Sequence[float]) -> dict[str, Overrides]:
    return {f"{symbol} = {value:.10g}": {number: value} for value in values}


def _choices(setting: str, *values: str) -> dict[str, Overrides]:
    return {value: {setting: value} for value in values}


# Returns on one scale, so that λ means the same whatever they sum
_SCALED = {"critic.bins": 1, "critic.weight": 0.5}
_ADAM = {"critic.optimizer": "adam", "critic.learning_rate": 1e-3}
_REWARDS = ("look-forward", "dino", "look-forward + dino", "look-forward + clip-text")

_ALL = (
    Ablation(
        "discount", "the discount γ (Table 4)", "look-forward",
        _numbers("objective.discount", "γ", (1.0, 0.9986, 0.99, 0.9)), number="objective.discount", symbol="γ",
    ),
    Ablation(
        "critic-weight", "the weight λ of the DINO reward's critic (Table 5, Figure 6)", "dino",
        _numbers("critic.weight", "λ", (0.1, 0.3, 1.0, 3.0, 10.0)), number="critic.weight", symbol="λ", shown="toy-1",
    ),
    Ablation(
        "target", "the critic's target (Eqs. 4 and 9), where later states follow from the action", "look-forward",
        _choices("critic.target", "one-step", "monte-carlo", "bootstrap"),
        {**_SCALED, "objective.transition": "policy"},
    ),
    Ablation(
        "transition", "where an action leads, with the target of Eq. 9", "look-forward",
        _choices("objective.transition", "reference", "policy"), {**_SCALED, "critic.target": "bootstrap"},
    ),
    Ablation("critic", "what the critic sees", "dino", _choices("critic.name", "residual", "state-action"), _ADAM),
    Ablation("reward", "the reward, all else alike", "look-forward+dino", _choices("objective.reward", *_REWARDS)),
    Ablation(
        "scale", "in how many ranges of timesteps returns are brought to one scale; 0: as they are",
        "look-forward+dino", _numbers("critic.bins", "bins", (0, 1, 20)), number="critic.bins", symbol="bins",
    ),
    Ablation(
        "frozen", "whether the critic learns, with a reward without a gradient (section 3.4)", "look-forward",
        {"critic learns": {"critic.steps": 4}, "critic never learns": {"critic.steps": 0}},
        {
            "objective.reward": "lookforward.examples.rewards:is_bright", "critic.name": "state-action",
            "critic.bins": 1, "critic.weight": 0.3, **_ADAM,
        },
        baseline="critic never learns",
    ),
)  # fmt: skip
ABLATIONS = {ablation.name: ablation for ablation in _ALL}


def find_ablation(name: str) -> Ablation:
    """An ablation by name.

    Raises:
        LookforwardError: there is none of that name; the message lists all.
    """
    if name not in ABLATIONS:
        width = max(map(len, ABLATIONS))
        known = "".join(f"\n  {a.name:{width}}  {a.varies}" for a in ABLATIONS.values())
        raise LookforwardError(f"There is no ablation {name!r}. There are:{known}", code="ablation-unknown")
    return ABLATIONS[name]


def with_values(ablation: Ablation, words: Sequence[str]) -> Ablation:
    """The same ablation of other numbers, as the user wrote them; unchanged if there are none.

    Raises:
        LookforwardError: it does not vary a number, or a word is not a number.
    """
    if not words:
        return ablation
    if not ablation.number:
        numeric = ", ".join(a.name for a in ABLATIONS.values() if a.number)
        text = f"--values is for ablations of a number ({numeric}); {ablation.name} has {', '.join(ablation.values)}."
        raise LookforwardError(text, code="ablation-values")
    numbers = [_number(word, ablation) for word in words]
    if len(set(numbers)) < len(numbers):
        raise LookforwardError(f"--values {' '.join(words)} has a number twice: give each once.", code="setting-twice")
    return replace(ablation, values=_numbers(ablation.number, ablation.symbol, numbers))


def _number(word: str, ablation: Ablation) -> float:
    try:
        value = tomllib.loads(f"x = {word}")["x"]
    except tomllib.TOMLDecodeError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        text = f"--values {word}: {ablation.symbol} of {ablation.name} is a number, such as 0.5."
        raise LookforwardError(text, code="ablation-values")
    return value


def method_of(ablation: Ablation, label: str) -> str:
    """The name of a value's method, fit for a file name."""
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
    model: str = TOYBOX,
) -> Plan:
    """The grid of an ablation. overrides: over the recipe and what all values share. count: of prompts. model: base.

    Raises:
        LookforwardError: a setting is wrong or of another model, or `overrides` set what is varied.
    """
    methods, labels = {}, {}
    base = {} if model == TOYBOX else {"model.name": model}
    for label, values in ablation.values.items():
        if both := sorted(values.keys() & overrides.keys()):
            text = f"{', '.join(both)}: that is what {ablation.name} varies; leave it out."
            raise LookforwardError(text, code="ablation-varied-setting")
        settings = {**base, **ablation.common, **overrides, **values}
        require_shared(load_settings(ablation.recipe, settings), model)
        name = method_of(ablation, label)
        methods[name], labels[name] = (ablation.recipe, settings), label
    data = bundled_dataset(model=model)
    return Plan(tuple(subjects), methods, tuple(seeds), None, images, count, data, labels=labels)
