"""The raters of a study and their answers, in the study's file.

Each answer is a transaction of its own, flushed to the disk before the rater sees the next pair.
"""

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from lookforward.records import structure
from lookforward.study.plan import plan_places
from lookforward.study.store import StudyFile

CHOICES = ("left", "right", "similar")


@dataclass(frozen=True)
class Question:
    """What one rater sees next. left, right and references: names of pictures. number counts from 1, of `total`."""

    number: int
    total: int
    prompt: str
    left: str
    right: str
    references: list[str]


@dataclass(frozen=True)
class _Answer:
    """One answer, as the file has it: the choices are sides."""

    rater: int
    pair: int
    subject: str
    prompt: str
    first: str
    second: str
    swapped: int
    repeated: int
    subject_choice: Literal["left", "right", "similar"]
    prompt_choice: Literal["left", "right", "similar"]
    answered: str


@dataclass(frozen=True)
class Progress:
    """How far a rater is: `answered` of `places` questions. last: when they answered last, or consented."""

    rater: int
    answered: int
    places: int
    last: str


class Raters:
    """Those who answer a study. Each use opens a connection of its own, so that threads and processes may share it."""

    def __init__(self, study: StudyFile) -> None:
        self.study = study

    def begin(self) -> str:
        """Add a rater who has consented; returns the secret key by which their browser is known."""
        plan = self.study.require_ready()
        with self.study.connect(write=True) as connection:
            key = secrets.token_urlsafe(24)
            cursor = connection.execute("INSERT INTO rater (key, consented) VALUES (?, ?)", (key, _now()))
            rater = cursor.lastrowid
            counts = connection.execute(
                "SELECT pair.id, COUNT(place.pair) AS n FROM pair LEFT JOIN place ON place.pair = pair.id "
                "GROUP BY pair.id"
            ).fetchall()
            if not counts:
                raise self.study.damaged("it has no pairs")
            rng = np.random.default_rng([plan.seed, abs(int(rater or 0))])
            order = [counts[i] for i in rng.permutation(len(counts))]
            pairs = [pair for pair, _ in sorted(order, key=lambda one: one[1])]
            shown = min(plan.shown, len(pairs)) or len(pairs)
            places = plan_places(pairs, shown, min(plan.repeats, (shown + 1) // 2), rng)
            connection.executemany(
                "INSERT INTO place (rater, number, pair, swapped, repeated) VALUES (?, ?, ?, ?, ?)",
                [(rater, i + 1, p.pair, p.swapped, p.repeated) for i, p in enumerate(places)],
            )
        return key

    def knows(self, key: str) -> bool:
        with self.study.connect() as connection:
            return connection.execute("SELECT 1 FROM rater WHERE key = ?", (key,)).fetchone() is not None

    def next_question(self, key: str) -> Question | None:
        """The first question that the rater has not answered; None after the last."""
        with self.study.connect() as connection:
            row = connection.execute(
                "SELECT place.number, place.swapped, pair.subject, pair.prompt, pair.shown, pair.first, pair.second, "
                "rater.id FROM place JOIN rater ON rater.id = place.rater JOIN pair ON pair.id = place.pair "
                "WHERE rater.key = ? AND place.answered IS NULL ORDER BY place.number LIMIT 1",
                (key,),
            ).fetchone()
            if row is None:
                return None
            number, swapped, subject, prompt, shown, first, second, rater = row
            (total,) = connection.execute("SELECT COUNT(*) FROM place WHERE rater = ?", (rater,)).fetchone()
            methods = (second, first) if swapped else (first, second)
            left, right = (
                connection.execute(
                    "SELECT picture FROM image WHERE subject = ? AND prompt = ? AND method = ?",
                    (subject, prompt, method),
                ).fetchone()
                for method in methods
            )
            references = connection.execute(
                "SELECT picture FROM reference WHERE subject = ? ORDER BY number", (subject,)
            ).fetchall()
        if left is None or right is None:
            raise self.study.damaged(f"an image of {subject}, {prompt!r} is missing")
        found = {"number": number, "total": total, "prompt": shown, "left": left[0], "right": right[0]}
        return structure({**found, "references": [name for (name,) in references]}, Question, self.study.path)

    def answer(self, key: str, number: int, subject_choice: str, prompt_choice: str) -> None:
        """Keep an answer. The first one counts: a page that is sent twice changes nothing.

        Raises ValueError for a choice that is none of CHOICES.
        """
        if subject_choice not in CHOICES or prompt_choice not in CHOICES:
            raise ValueError(f"choices are {', '.join(CHOICES)}")
        with self.study.connect(write=True) as connection:
            connection.execute(
                "UPDATE place SET subject_choice = ?, prompt_choice = ?, answered = ? WHERE number = ? AND answered "
                "IS NULL AND rater = (SELECT id FROM rater WHERE key = ?)",
                (subject_choice, prompt_choice, _now(), number, key),
            )

    def withdraw(self, key: str) -> None:
        """Delete a rater and all their answers."""
        with self.study.connect(write=True) as connection:
            connection.execute("DELETE FROM rater WHERE key = ?", (key,))

    def progress(self) -> list[Progress]:
        """Every rater, in the order in which they began."""
        with self.study.connect() as connection:
            rows = connection.execute(
                "SELECT rater.id, COUNT(place.answered), COUNT(place.number), COALESCE(MAX(place.answered), "
                "rater.consented) FROM rater LEFT JOIN place ON place.rater = rater.id GROUP BY rater.id "
                "ORDER BY rater.id"
            ).fetchall()
        found = [dict(zip(("rater", "answered", "places", "last"), row, strict=True)) for row in rows]
        return structure(found, list[Progress], self.study.path)

    def answers(self) -> list[Mapping[str, Any]]:
        """Every answer: rater, pair, subject, prompt, first, second, swapped, repeated, subject_choice, prompt_choice.

        The choices are "first", "second" or "similar": which side an image was on is resolved here.
        """
        with self.study.connect() as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(
                "SELECT place.rater, place.pair, pair.subject, pair.prompt, pair.first, pair.second, place.swapped, "
                "place.repeated, place.subject_choice, place.prompt_choice, place.answered FROM place "
                "JOIN pair ON pair.id = place.pair WHERE place.answered IS NOT NULL ORDER BY place.rater, place.number"
            ).fetchall()
        found = structure([dict(row) for row in rows], list[_Answer], self.study.path)
        methods = self.study.plan().methods
        if unknown := [name for one in found for name in (one.first, one.second) if name not in methods]:
            raise self.study.damaged(f"it has answers on {unknown[0]!r}, which is none of its methods")
        sides = ("subject_choice", "prompt_choice")
        return [{**vars(one), **{side: _resolve(getattr(one, side), one.swapped) for side in sides}} for one in found]


def _resolve(choice: str, swapped: int) -> str:
    if choice == "similar":
        return choice
    return "first" if (choice == "left") != bool(swapped) else "second"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
