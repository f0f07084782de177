"""Settings from plain values and TOML, checked; and back to TOML."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookforward.config.methods import COMPARED
from lookforward.config.settings import FIELDS, GROUPS, SHORT, Settings
from lookforward.config.spec import range_in_words
from lookforward.errors import LookforwardError
from lookforward.records import parse_toml, read_bytes


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        LookforwardError: the file cannot be read, or is not TOML.
    """
    try:
        return parse_toml(read_bytes(path).decode("utf-8"))
    except ValueError as error:
        raise LookforwardError(f"{path} is not TOML: {error}.", code="toml-damaged") from error


def flatten(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables to values by their dotted names; names that are dotted already stay as they are.

    Raises:
        LookforwardError: a setting is there twice, with two values.
    """
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        nested = isinstance(value, Mapping)
        flat = join(
            flat, {f"{name}.{inner}": one for inner, one in flatten(value).items()} if nested else {name: value}
        )
    return flat


def join(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Values from two places by their dotted names.

    Raises:
        LookforwardError: both have a setting, with two values.
    """
    for name in first.keys() & second.keys():
        if first[name] != second[name]:
            raise LookforwardError(
                f"{name} is given twice, as {first[name]!r} and as {second[name]!r}: give it once.",
                code="setting-twice",
            )
    return {**first, **second}


def structure(values: Mapping[str, Any], where: str) -> Settings:
    """Values by dotted names (or in nested tables) to checked settings; what is missing has its default.

    where: what messages say the values came from.

    Raises:
        LookforwardError: a name is unknown (the message names its nearest neighbour), a value is of the wrong kind or
            outside its range, or two settings contradict each other.
    """
    values = flatten(values)
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for name, value in values.items():
        check_value(name, value, where)
        one = FIELDS[name]
        groups[one.group][one.key] = float(value) if one.kind is float else value
    settings = Settings(**{name: GROUPS[name](**given) for name, given in groups.items()})
    _check_together(settings)
    return settings


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The same settings with other values, by dotted names.

    Raises:
        LookforwardError: as `structure`.
    """
    return structure(settings.flat() | flatten(values), "the changed settings")


def check_value(name: str, value: Any, where: str = "") -> None:
    """Raise LookforwardError if there is no such setting, or the value is of the wrong kind or outside its range.

    where: what messages say the value came from; empty for the user's own options.
    """
    place = f" in {where}" if where else ""
    if name not in FIELDS:
        near = nearest(name)
        hint = f"Did you mean {near}?" if near else "docs/settings.md lists them all."
        raise LookforwardError(f"Unknown setting {name}{place}. {hint}", code="setting-unknown")
    kind, choices, within = FIELDS[name].kind, FIELDS[name].choices, FIELDS[name].spec.within
    if choices:
        if value not in choices:
            listed = ", ".join(choices)
            near = difflib.get_close_matches(str(value), choices, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise LookforwardError(f"{name} = {value!r}{place}: choose one of {listed}.{meant}", code="setting-choice")
        return
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise LookforwardError(f"{name} = {value!r}{place} must be of type {kind.__name__}.", code="setting-kind")
    if isinstance(value, float) and not math.isfinite(value):
        raise LookforwardError(f"{name} = {value}{place} must be a finite number.", code="setting-range")
    if within and not lies_in(value, within):
        raise LookforwardError(f"{name} = {value}{place} must be {range_in_words(within)}.", code="setting-range")


def check_number(option: str, value: float | None, within: str) -> None:
    """Raise LookforwardError unless the number of an option lies in an interval; nan lies in none. None: not given."""
    if value is not None and not lies_in(value, within):
        raise LookforwardError(f"--{option} {value} must be {range_in_words(within)}.", code="option-range")


def nearest(name: str) -> str:
    """The setting whose name is most like a wrong one; empty if none is."""
    key = name.split(".")[-1]
    keys = {one.key: full for full, one in FIELDS.items()}
    alike = [SHORT[name]] if name in SHORT else [full for full, one in FIELDS.items() if one.key == key]
    alike += difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
    alike += difflib.get_close_matches(name.replace("_", ".", 1), FIELDS, n=1, cutoff=0.8)
    alike += [keys[one] for one in difflib.get_close_matches(key, keys, n=1)]
    return alike[0] if alike else ""


def lies_in(value: float, interval: str) -> bool:
    """Whether a number lies in an interval, written as in mathematics."""
    low, high = (float(end) for end in interval[1:-1].replace("2^63", str(2**63)).split(","))
    above = value > low if interval[0] == "(" else value >= low
    return above and (value < high if interval[-1] == ")" else value <= high)


def _check_together(settings: Settings) -> None:
    objective, critic, baseline = settings.objective, settings.critic, settings.baseline
    problem = ""
    if baseline.name != "none" and (critic.name != "none" or objective.reward_gradient == "direct"):
        problem = (
            f"baseline.name = {baseline.name!r} has no critic: set critic.name to none and objective.reward_gradient "
            "to critic."
        )
    elif objective.reward_gradient == "direct" and critic.name != "none":
        problem = "objective.reward_gradient = 'direct' follows the reward itself: set critic.name to none."
    elif baseline.name == "draft" and baseline.draft_last > baseline.sampler_steps:
        problem = (
            f"baseline.draft_last = {baseline.draft_last} is more than the {baseline.sampler_steps} sampler steps: "
            "lower it, or raise baseline.sampler_steps."
        )
    elif baseline.name != "none" and baseline.draft_noises and baseline.draft_last != 1:
        problem = "baseline.draft_noises needs baseline.draft_last = 1."
    elif baseline.name in COMPARED and settings.adapter.train_text_encoder:
        problem = f"baseline.name = {baseline.name!r} trains no text encoder: set adapter.train_text_encoder to false."
    elif settings.optimizer.fused and (settings.run.accumulate > 1 or baseline.name != "none"):
        problem = (
            "optimizer.fused updates weights within each backward pass, so that no gradients can be summed: set "
            "run.accumulate to 1 and baseline.name to none, or optimizer.fused to false."
        )
    elif settings.optimizer.fused and settings.run.auto_batch:
        problem = (
            "run.auto_batch sums the gradients of smaller batches, and optimizer.fused has updated weights by then: "
            "set one of them to false."
        )
    elif (
        objective.prior_weight > 0
        and settings.data.class_images == 0
        and not settings.data.class_folder
        and objective.preservation == "images"
    ):
        problem = (
            "objective.prior_weight is above 0, but data.class_images is 0: raise it, set objective.preservation "
            "to output, or set objective.prior_weight to 0."
        )
    elif objective.prior_weight > 0 and objective.preservation != "images" and baseline.name != "none":
        problem = (
            f"baseline.name = {baseline.name!r} preserves the class by class images: set objective.preservation to "
            "images, or objective.prior_weight to 0."
        )
    elif objective.prior_weight > 0 and objective.preservation == "preference" and settings.subject.others:
        problem = (
            "objective.preservation = 'preference' compares photos and drawn images of one subject: leave out "
            "subject.others, or set objective.preservation to images."
        )
    elif settings.data.buckets and (settings.data.augment or settings.data.crops > 1):
        problem = "data.buckets takes the whole photo: set data.crops to 1 and data.augment to false."
    elif settings.data.caption_dropout and baseline.name != "none":
        problem = f"baseline.name = {baseline.name!r} draws with its prompts: set data.caption_dropout to 0."
    elif settings.optimizer.decay and settings.optimizer.schedule != "constant":
        problem = "optimizer.decay is for optimizer.schedule = 'constant': set one of the two."
    elif settings.optimizer.warmup >= settings.run.steps:
        problem = (
            f"optimizer.warmup = {settings.optimizer.warmup} leaves nothing of the {settings.run.steps} steps of "
            "run.steps: lower it."
        )
    if problem:
        raise LookforwardError(problem, code="settings-conflict")


def require_learning(settings: Settings) -> Settings:
    """The settings themselves, if a run with them has anything to learn from.

    Raises:
        LookforwardError: no term of the loss has a weight.
    """
    # A critic that never learns still counts: one of the ablations is that
    critic, objective = settings.critic, settings.objective
    followed = critic.weight > 0 and (critic.name != "none" or objective.reward_gradient == "direct")
    if settings.baseline.name == "none" and objective.reconstruction_weight == 0 and not followed:
        raise LookforwardError(
            "Nothing to learn from: objective.reconstruction_weight is 0, and no reward is followed. For a reward set "
            "critic.weight above 0, and either critic.name other than none or objective.reward_gradient to direct.",
            code="nothing-to-learn",
        )
    heard = settings.baseline.name == "none" and critic.name != "none" and critic.weight > 0
    if heard and critic.warmup >= settings.run.steps:
        raise LookforwardError(
            f"critic.warmup = {critic.warmup} is not below run.steps = {settings.run.steps}, so that the policy would "
            "never follow the critic: lower it, or raise run.steps.",
            code="settings-conflict",
        )
    return settings


def to_toml(settings: Settings) -> str:
    """All settings as TOML, a table for each group."""
    tables = []
    for group in GROUPS:
        values = {one.name: getattr(getattr(settings, group), one.name) for one in dataclasses.fields(GROUPS[group])}
        tables.append("\n".join([f"[{group}]", *(f"{name} = {toml_value(v)}" for name, v in values.items())]))
    return "\n\n".join(tables) + "\n"


def toml_value(value: bool | int | float | str) -> str:
    """A plain value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            escaped = "".join(
                {"\\": "\\\\", '"': '\\"'}.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c)
                for c in value
            )
            return f'"{escaped}"'
        case _:
            return repr(value)
