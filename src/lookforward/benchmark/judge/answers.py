"""Answers of judges in one SQLite file, by the digest of what was asked, so that nothing is paid for twice."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookforward.benchmark.judge.questions import Points
from lookforward.errors import LookforwardError
from lookforward.records import structure

ANSWERS = "judge.sqlite"
REFUSED = "refused: "  # begins the reason
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answer (digest TEXT PRIMARY KEY, rating INTEGER, why TEXT NOT NULL, text TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL, endpoint TEXT NOT NULL);
"""
_COLUMNS = "rating, why, text, prompt_tokens, answer_tokens, endpoint"
_PUT = f"""
INSERT INTO answer (digest, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET
  rating = excluded.rating, why = excluded.why, text = excluded.text, endpoint = excluded.endpoint,
  prompt_tokens = prompt_tokens + excluded.prompt_tokens, answer_tokens = answer_tokens + excluded.answer_tokens
"""  # what was spent before counts on


@dataclass(frozen=True)
class Answer:
    """rating: 0 to 4; None if it is missing, and why then says the reason. text: of the judge's last answer. tokens: of
    all tries together. endpoint: its address."""

    rating: Points | None
    why: str = ""
    text: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    endpoint: str = ""

    @property
    def refused(self) -> bool:
        """Whether the endpoint refused the request, which costs nothing, so that a later call asks again."""
        return self.rating is None and self.why.startswith(REFUSED)


class Answers:
    """The file of answers; each one is on the disk once `put` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reporting():
            self._file = sqlite3.connect(path, isolation_level=None)
            self._file.executescript(_SCHEMA)

    def close(self) -> None:
        self._file.close()

    def get(self, digest: str) -> Answer | None:
        with self._reporting():
            row = self._file.execute(f"SELECT {_COLUMNS} FROM answer WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else structure(dict(zip(_COLUMNS.split(", "), row, strict=True)), Answer, self.path)

    def put(self, digest: str, answer: Answer) -> None:
        with self._reporting():
            self._file.execute(_PUT, (digest, *astuple(answer)))

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = f"{self.path} cannot be used ({error}): move it away to pay for its answers again, or restore it."
            raise LookforwardError(text, code="judge-answers") from error


def digest_of(model: str, question: str, images: Sequence[np.ndarray], parameters: Mapping[str, Any], size: int) -> str:
    """Of all that decides an answer. images: (h, w, 3) uint8, before they are made smaller to `size` and packed."""
    asked = {"model": model, "question": question, "parameters": dict(parameters), "size": size}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for image in images:
        digest.update(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
