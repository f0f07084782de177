"""Sums of rewards as users write them: "look-forward + 0.5*dino - 0.1*mymodule:f"."""

import math
import re
from collections.abc import Sequence

from lookforward.errors import LookforwardError

Terms = tuple[tuple[float, str], ...]

_EXAMPLE = "Write it like 'look-forward + 0.5*dino - 0.1*mymodule:function'."
_SIGN = re.compile(r"\s*([+-])\s*")
_WEIGHT = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*")
# A hyphen within a name has a letter or a digit on both sides; one beside a space is a minus
_NAME = re.compile(r"[^\W\d](?:[\w.:/@]|(?<=\w)-(?=\w))*")


def parse_terms(text: str) -> Terms:
    """ "look-forward + 0.5*dino" → ((1.0, "look-forward"), (0.5, "dino")); the inverse of `format_terms`.

    Raises LookforwardError if the text is not such a sum, or names a reward twice.
    """
    terms: list[tuple[float, str]] = []
    at, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if at >= end:
        raise LookforwardError(f"reward is empty. {_EXAMPLE}", code="reward-syntax")
    while at < end:
        sign = _SIGN.match(text, at)
        if sign is None and terms:
            raise _unexpected(text, at, end, "+ or - was expected")
        at = sign.end() if sign else at
        weight = _WEIGHT.match(text, at)
        at = weight.end() if weight else at
        name = _NAME.match(text, at)
        if name is None:
            wanted = "a reward's name was expected" if weight else "a weight and *, or a reward's name, was expected"
            raise _unexpected(text, at, end, wanted)
        value = float(weight[1]) if weight else 1.0
        if math.isinf(value):
            raise LookforwardError(
                f"reward = {text!r}: the weight {weight and weight[1]} is too large.", "reward-weight"
            )
        terms.append((-value if sign and sign[1] == "-" else value, name[0]))
        at = name.end()
    names = [name for _, name in terms]
    for name in names:
        if names.count(name) > 1:
            raise LookforwardError(
                f"reward = {text!r} names {name} twice. Give it one weight, such as 2*{name}.", code="reward-twice"
            )
    return tuple(terms)


def format_terms(terms: Sequence[tuple[float, str]]) -> str:
    """((1.0, "look-forward"), (-0.5, "dino")) → "look-forward - 0.5*dino"."""
    written = ""
    for weight, name in terms:
        sign = "-" if weight < 0 else "+"
        written += f" {sign} " if written else ("-" if weight < 0 else "")
        written += name if abs(weight) == 1 else f"{repr(abs(float(weight))).removesuffix('.0')}*{name}"
    return written


def _unexpected(text: str, at: int, end: int, wanted: str) -> LookforwardError:
    rest = text[at:end].lstrip()
    found = f"at {rest!r}" if rest else "at the end"
    if rest.startswith("*"):
        found += ": a weight precedes its reward, and a minus needs spaces around it"
    return LookforwardError(f"reward = {text!r}: {wanted} {found}. {_EXAMPLE}", code="reward-syntax")
