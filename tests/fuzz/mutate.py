"""Changes of inputs: of a JSON tree's values and keys, of a PNG file's chunks with their checksums, else of bytes."""

import json
import random
import zlib
from collections.abc import Callable
from typing import Any

_DEEP: Any = []
for _ in range(60):
    _DEEP = [_DEEP]
HOSTILE = (
    None, True, False, 0, -1, 1, 2, 7, 0.5, 1e308, -1e308, 10**12, 2**63 - 1, 2**64, -(2**63), "", " ", "x", "x" * 400,
    "\0", "\n", "\ud800", "../..", "/etc/passwd", "a/b", "{}", "{0}", "{", "}", "nan", "inf", "0", "-1", "1e999",
    "None", "<b>", "\x1b[2J", [], {}, [[]], [{}], [1], ["a"], {"a": 1}, {"": ""}, {"a": {"b": []}}, _DEEP,
)  # fmt: skip
Change = Callable[[bytes, int], bytes]  # an input and its largest size, to another: the fuzzer's own


def mutate(data: bytes, most: int, seed: int, change: Change) -> bytes:
    """An input that differs from another one. most: bytes of it."""
    rng = random.Random(seed)
    head, body = data[:1], data[1:]
    if rng.random() < 0.05:
        head = bytes([ord("a") + rng.randrange(12)])
    if body.startswith(b"\x89PNG"):
        return (head + _png(rng, body, most, change))[:most]
    if rng.random() < 0.75 and (made := _tree(rng, body)) is not None and len(made) < most:
        return head + made
    return (head + change(body, most - 1))[:most]


def _tree(rng: random.Random, body: bytes) -> bytes | None:
    """The JSON, or one line of several, with some values changed; None where it is none."""
    lines = [body] if rng.random() < 0.5 else body.split(b"\n")
    at = rng.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = _changed(rng, value)
    try:
        lines[at] = json.dumps(value).encode()
    except (ValueError, RecursionError):
        return None
    return b"\n".join(lines)


def _changed(rng: random.Random, value: Any) -> Any:
    """A value, changed at one place somewhere within."""
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    if not inner or rng.random() < 0.08:
        return _other(rng, value)
    key, one = rng.choice(inner)
    made: dict[Any, Any] = dict(inner)
    how = rng.random()
    if how < 0.08:
        del made[key]
    elif how < 0.13:
        made[f"{key}{rng.choice(('', 'x', '.', '/'))}" if isinstance(value, dict) else len(made)] = one
    elif how < 0.2:
        made[key] = rng.choice(inner)[1]  # that of its neighbour
    else:
        made[key] = _changed(rng, one)
    return made if isinstance(value, dict) else [made[place] for place in sorted(made)]


def _other(rng: random.Random, value: Any) -> Any:
    kind = rng.random()
    if isinstance(value, bool) or value is None or kind < 0.6:
        return rng.choice(HOSTILE)
    if isinstance(value, int | float):
        return rng.choice((-value, value + 1, value - 1, value * 1000, float(min(value, 1e300)), str(value)))
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        extra = rng.choice(("\0", "=", ";", ".", "/", "\n", '"', "'", "{", "\ud800", "é", "9" * 30))
        return rng.choice((value[:at], value[:at] + extra + value[at:], value * 3))
    return [value, value]


def _png(rng: random.Random, data: bytes, most: int, change: Change) -> bytes:
    """The chunks of a PNG file: one changed, dropped, or there twice; all with the right checksums."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return change(data, most)
    place = rng.randrange(len(chunks))
    name, content = chunks[place]
    how = rng.random()
    if how < 0.1:
        chunks.pop(place)
    elif how < 0.2:
        chunks.insert(rng.randrange(len(chunks)), chunks[place])
    elif how < 0.3:
        chunks[place] = rng.choice((b"IDAT", b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"acTL", b"fcTL", b"tRNS")), content
    else:
        chunks[place] = name, change(content, max(16, len(content) + 16))
    made = [len(c).to_bytes(4, "big") + n + c + zlib.crc32(n + c).to_bytes(4, "big") for n, c in chunks]
    return data[:8] + b"".join(made)
