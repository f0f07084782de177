"""Text from outside, made visible: file names, captions, prompts and metadata, before they reach a terminal or a page.

A terminal obeys escape codes, a bidirectional mark reverses what is read, and a file name need not be text at all. Such
characters are shown as Python writes them, with a backslash: `\\x1b`, `\\u202e`, `\\xff`.
"""

import re
import sys
import unicodedata

MOST_OF_NOTE = 1_000  # characters of a note, or of any other line that holds text from outside
MOST_OF_MESSAGE = 4_000  # characters of an error's message, which may list twenty files
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # categories of Unicode: controls, formats, surrogates, line separators
_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji
_BYTES = 0xDC80, 0xDCFF  # how Python stores the bytes of a file name that is not UTF-8
_SUSPECT = re.compile(r"[^\x20-\x7e]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: object, most: int | None = None, *, lines: bool = False) -> str:
    """`str(text)` with whatever cannot be seen written with a backslash.

    most: characters to keep, see `cut`; all if None. lines: line breaks stay as they are.
    """
    shown = _SUSPECT.sub(lambda found: _escape(found[0], lines), str(text))
    return shown if most is None else cut(shown, most)


def cut(text: str, most: int) -> str:
    """A long text without its middle: the beginning says what it is about, the end has the remedy."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    tail = max(0, most - head - 3)
    return f"{text[:head]} … {text[len(text) - tail :]}"


def keep_streams_open() -> None:
    """Let standard output and errors write whatever they cannot encode with a backslash, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a replaced stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _escape(character: str, lines: bool) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS or (lines and character == "\n"):
        return character
    if character in _NAMED:
        return _NAMED[character]
    number = ord(character)
    if _BYTES[0] <= number <= _BYTES[1]:
        number -= 0xDC00
    if number > 0xFFFF:
        return f"\\U{number:08x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
