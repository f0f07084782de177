"""Reject options that the parser would misread: an option with two values, and a value after a switch.

The parser would take the last of two values, and read the value after a switch as a positional argument.
"""

from collections.abc import Collection, Sequence

from lookforward.config.settings import FIELDS, SHORT
from lookforward.errors import LookforwardError

_VALUES = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


def check_given_once(words: Sequence[str], repeatable: Collection[str] = ()) -> None:
    """Raise LookforwardError if an option is given twice with two values, also under its short and its dotted name.

    repeatable: options that may come again.
    """
    given: dict[str, list[str]] = {}
    for name, values in _options(words):
        before = given.setdefault(name, values)
        # One value may be followed by a positional word, which is none of it
        several = len(before) > 2 and len(values) > 2
        count = None if several else min(2, len(before), len(values))
        if name not in repeatable and before[:count] != values[:count]:
            shown = " and as ".join(" ".join(one[1:] if several else one[1:2]) or one[0] for one in (before, values))
            raise LookforwardError(f"--{name} is given twice, as {shown}: give it once.", code="setting-twice")


def check_switches(words: Sequence[str]) -> None:
    """Raise LookforwardError if a switch is given a value: it is on as --NAME and off as --no-NAME."""
    for name, (state, *values) in _options(words):
        if name not in FIELDS or FIELDS[name].kind is not bool or not values or values[0].lower() not in _VALUES:
            continue
        group, _, key = name.replace("_", "-").rpartition(".")
        no = "" if _VALUES[values[0].lower()] == (state == "on") else "no-"
        raise LookforwardError(
            f"{name} takes no value on the command line: write --{group}.{no}{key} instead of {values[0]!r}.",
            code="switch-value",
        )


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each option's name, and after "on" or "off" the words behind it."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if not word.startswith("--") or word == "--":
            if found:
                found[-1][1].append(word)
            continue
        option, equals, value = word[2:].partition("=")
        name, state = option.replace("-", "_"), "on"
        group, dot, key = name.rpartition(".")
        if key.startswith("no_"):
            name, state = f"{group}{dot}{key.removeprefix('no_')}", "off"
        found.append((SHORT.get(name, name), [state, *([value] if equals else [])]))
    return found
