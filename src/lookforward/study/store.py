"""A study as one SQLite file: its images, its pairs, its raters and their answers.

Each answer is a transaction of its own, flushed to the disk before the rater sees the next pair.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lookforward.errors import LookforwardError
from lookforward.records import parse_json, structure
from lookforward.study.plan import plan_places

CHOICES = ("left", "right", "similar")
_FORMAT = 1
_SCHEMA = """
CREATE TABLE study (plan TEXT NOT NULL, ready INTEGER NOT NULL DEFAULT 0);
CREATE TABLE picture (name TEXT PRIMARY KEY, png BLOB NOT NULL);
CREATE TABLE reference (subject TEXT, number INTEGER, picture TEXT, PRIMARY KEY (subject, number));
CREATE TABLE image (subject TEXT, prompt TEXT, method TEXT, seed INTEGER, clip_text REAL, picture TEXT,
  PRIMARY KEY (subject, prompt, method));
CREATE TABLE pair (id INTEGER PRIMARY KEY, subject TEXT, prompt TEXT, shown TEXT, first TEXT,
  second TEXT);
CREATE TABLE rater (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, consented TEXT NOT NULL);
CREATE TABLE place (rater INTEGER REFERENCES rater(id) ON DELETE CASCADE, number INTEGER, pair INTEGER,
  swapped INTEGER, repeated INTEGER, subject_choice TEXT, prompt_choice TEXT, answered TEXT,
  PRIMARY KEY (rater, number));
"""


@dataclass(frozen=True)
class StudyPlan:
    """How a study was made. methods: at least two; every two of them are compared.

    candidates: images drawn of each prompt, of which the best by CLIP-T is shown; 1 shows the first. shown: pairs a
    rater sees, 0: all. repeats: pairs that a rater sees twice.
    """

    methods: list[str]
    runs: list[str]
    prompts: dict[str, list[str]]
    candidates: int
    seed: int
    shown: int
    repeats: int
    version: str
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if len(self.methods) < 2 or min(self.candidates - 1, self.seed, self.shown, self.repeats) < 0:
            raise ValueError("it has fewer than two methods, or a number below what it may be")


@dataclass(frozen=True)
class Answer:
    """One answer, as the file has it; the choices are sides."""

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
class Question:
    """What one rater sees next. left, right and references: names of pictures. number counts from 1, of `total`."""

    number: int
    total: int
    prompt: str
    left: str
    right: str
    references: list[str]


class StudyFile:
    """The file of a study. Each use opens a connection of its own, so that threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def connect(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection; with `write`, a transaction that is kept at its end or undone by an error.

        Raises:
            LookforwardError: the file cannot be read or written.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from someone else
                if not write:
                    yield connection
                    return
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise LookforwardError(
                f"{self.path} cannot be used as a study ({error}): check that it is the file that `lookforward study "
                "create` wrote and that its folder can be written.",
                code="study-file",
            ) from error

    def create(self, plan: StudyPlan) -> None:
        """Make the file, or accept one that was begun with the same plan.

        Raises:
            LookforwardError: the file is another study, or cannot be written.
        """
        if self.path.exists():
            if self.plan() != plan:
                raise LookforwardError(
                    f"{self.path} is a study of other runs or settings: give another --output.", code="study-differs"
                )
            return
        with self.connect(write=True) as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO study (plan) VALUES (?)", (json.dumps(asdict(plan)),))

    def plan(self) -> StudyPlan:
        """How the study was made. Raises LookforwardError where the file is missing or no study."""
        if not self.path.is_file():
            raise LookforwardError(
                f"There is no file {self.path}: `lookforward study create` makes one.", code="study-missing"
            )
        with self.connect() as connection:
            row = connection.execute("SELECT plan FROM study").fetchone()
        try:
            return structure(parse_json(str(row[0]) if row else ""), StudyPlan, self.path)
        except ValueError as error:
            raise self._damaged(f"its plan is no JSON ({error})") from error

    def _damaged(self, what: str) -> LookforwardError:
        return LookforwardError(f"{self.path} is damaged: {what}. Restore it, or make the study again.", "file-damaged")

    def require_ready(self) -> StudyPlan:
        """The plan of a study with all its images. Raises LookforwardError where creating it was interrupted."""
        plan = self.plan()
        with self.connect() as connection:
            row = connection.execute("SELECT ready FROM study").fetchone()
        if not (row and row[0]):
            raise LookforwardError(
                f"{self.path} does not have all its images yet: run the same `lookforward study create` again.",
                code="study-unfinished",
            )
        return plan

    def add_references(self, subject: str, pictures: Sequence[bytes]) -> None:
        """Store photos of a subject as PNG files."""
        with self.connect(write=True) as connection:
            for number, png in enumerate(pictures):
                name = _store(connection, png)
                connection.execute("INSERT OR REPLACE INTO reference VALUES (?, ?, ?)", (subject, number, name))

    def has_image(self, subject: str, prompt: str, method: str) -> bool:
        with self.connect() as connection:
            row = connection.execute(
                "SELECT 1 FROM image WHERE subject = ? AND prompt = ? AND method = ?", (subject, prompt, method)
            ).fetchone()
        return row is not None

    def add_image(self, subject: str, prompt: str, method: str, png: bytes, seed: int, clip_text: float) -> None:
        """Store the image that stands for a method, with the seed and CLIP-T by which it was picked."""
        with self.connect(write=True) as connection:
            name = _store(connection, png)
            connection.execute(
                "INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?)",
                (subject, prompt, method, seed, clip_text, name),
            )

    def finish(self, pairs: Sequence[tuple[str, str, str, str, str]]) -> None:
        """Store the pairs and open the study. Of each: subject, prompt, the prompt as raters see it, both methods."""
        with self.connect(write=True) as connection:
            row = connection.execute("SELECT ready FROM study").fetchone()
            if row and row[0]:
                return
            connection.executemany(
                "INSERT INTO pair (subject, prompt, shown, first, second) VALUES (?, ?, ?, ?, ?)", pairs
            )
            connection.execute("UPDATE study SET ready = 1")

    def begin(self) -> str:
        """Add a rater who has consented; returns the secret key by which their browser is known."""
        plan = self.require_ready()
        with self.connect(write=True) as connection:
            key = secrets.token_urlsafe(24)
            cursor = connection.execute("INSERT INTO rater (key, consented) VALUES (?, ?)", (key, _now()))
            rater = cursor.lastrowid
            counts = connection.execute(
                "SELECT pair.id, COUNT(place.pair) AS n FROM pair LEFT JOIN place ON place.pair = pair.id "
                "GROUP BY pair.id"
            ).fetchall()
            if not counts:
                raise self._damaged("it has no pairs")
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
        with self.connect() as connection:
            return connection.execute("SELECT 1 FROM rater WHERE key = ?", (key,)).fetchone() is not None

    def next_question(self, key: str) -> Question | None:
        """The first question that the rater has not answered; None after the last."""
        with self.connect() as connection:
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
            raise self._damaged(f"an image of {subject}, {prompt!r} is missing")
        found = {"number": number, "total": total, "prompt": shown, "left": left[0], "right": right[0]}
        return structure({**found, "references": [name for (name,) in references]}, Question, self.path)

    def answer(self, key: str, number: int, subject_choice: str, prompt_choice: str) -> None:
        """Keep an answer. The first one counts: a page that is sent twice changes nothing.

        Raises ValueError for a choice that is none of CHOICES.
        """
        if subject_choice not in CHOICES or prompt_choice not in CHOICES:
            raise ValueError(f"choices are {', '.join(CHOICES)}")
        with self.connect(write=True) as connection:
            connection.execute(
                "UPDATE place SET subject_choice = ?, prompt_choice = ?, answered = ? WHERE number = ? AND answered "
                "IS NULL AND rater = (SELECT id FROM rater WHERE key = ?)",
                (subject_choice, prompt_choice, _now(), number, key),
            )

    def withdraw(self, key: str) -> None:
        """Delete a rater and all their answers."""
        with self.connect(write=True) as connection:
            connection.execute("DELETE FROM rater WHERE key = ?", (key,))

    def picture(self, name: str) -> bytes | None:
        with self.connect() as connection:
            row = connection.execute("SELECT png FROM picture WHERE name = ?", (name,)).fetchone()
        if row is not None and not isinstance(row[0], bytes):
            raise self._damaged(f"the picture {name} is none")
        return None if row is None else row[0]

    def answers(self) -> list[Mapping[str, Any]]:
        """Every answer: rater, pair, subject, prompt, first, second, swapped, repeated, subject_choice, prompt_choice.

        The choices are "first", "second" or "similar": which side an image was on is resolved here.
        """
        with self.connect() as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(
                "SELECT place.rater, place.pair, pair.subject, pair.prompt, pair.first, pair.second, place.swapped, "
                "place.repeated, place.subject_choice, place.prompt_choice, place.answered FROM place "
                "JOIN pair ON pair.id = place.pair WHERE place.answered IS NOT NULL ORDER BY place.rater, place.number"
            ).fetchall()
        found = structure([dict(row) for row in rows], list[Answer], self.path)
        methods = self.plan().methods
        if unknown := [name for one in found for name in (one.first, one.second) if name not in methods]:
            raise self._damaged(f"it has answers on {unknown[0]!r}, which is none of its methods")
        sides = ("subject_choice", "prompt_choice")
        return [{**vars(one), **{side: _resolve(getattr(one, side), one.swapped) for side in sides}} for one in found]


def _resolve(choice: str, swapped: int) -> str:
    if choice == "similar":
        return choice
    return "first" if (choice == "left") != bool(swapped) else "second"


def _store(connection: sqlite3.Connection, png: bytes) -> str:
    """Keep a picture under a random name, which tells nothing about where it comes from."""
    name = secrets.token_hex(12)
    connection.execute("INSERT INTO picture VALUES (?, ?)", (name, png))
    return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
