"""One option, one value: the parser would take the last of two without a word."""

from collections.abc import Collection, Sequence

from lookforward.config.settings import SHORT
from lookforward.errors import LookforwardError


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
