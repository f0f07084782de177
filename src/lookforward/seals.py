"""A seal at the end of a JSON object in one line: the CRC-32 of the rest, so that a changed byte is noticed.

{"step": 1, "loss": 0.5, "crc32": 2774253362}
"""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

KEY = "crc32"
_SEAL = re.compile(rb', "crc32": (\d{1,10})\}\s*\Z')


def sealed_json(value: Mapping[str, Any]) -> str:
    """A table as JSON in one line, with its seal as the last value. It must have another value, and no such key."""
    text = json.dumps(value)
    return f'{text[:-1]}, "{KEY}": {zlib.crc32(text.encode())}}}'


def unsealed(line: bytes) -> tuple[bytes, bool]:
    """The JSON without its seal, and whether it had one; JSON without a seal comes back as it is.

    Raises:
        ValueError: the seal is not that of the rest.
    """
    found = _SEAL.search(line)
    if found is None:
        return line, False
    body = line[: found.start()] + b"}"
    if str(zlib.crc32(body)).encode() != found[1]:
        raise ValueError(f"a byte of it was changed: its {KEY} is that of other values")
    return body, True
