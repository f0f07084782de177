"""A study as one SQLite file: its plan, its images and its pairs. Raters and their answers are there too (`raters`)."""

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lookforward.errors import LookforwardError
from lookforward.records import parse_json, structure
from lookforward.study.statistics import every_two

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

    @property
    def images(self) -> int:
        """How many images the study has: one of each method and prompt."""
        return len(self.methods) * sum(map(len, self.prompts.values()))

    @property
    def pairs(self) -> int:
        """How many pairs of images there are to compare."""
        return len(every_two(self.methods)) * sum(map(len, self.prompts.values()))


class StudyFile:
    """The file of a study. Each use opens a connection of its own, so that threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def connect(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection; with `write`, a transaction that is kept at its end or undone by an error.

        Raises:
            LookforwardError: the file is missing and only to be read, or cannot be read or written.
        """
        if not write and not self.path.is_file():  # SQLite would make an empty one
            raise LookforwardError(
                f"There is no file {self.path}: `lookforward study create` makes one.", code="study-missing"
            )
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

    @property
    def begun(self) -> bool:
        """Whether anything is there. A kill before the first write leaves an empty file, which is nothing."""
        return self.path.exists() and (not self.path.is_file() or self.path.stat().st_size > 0)

    @property
    def is_other(self) -> bool:
        """Whether it is a database of another program: SQLite reads it, and it has tables, but not a study's."""
        try:
            with self.connect() as connection:
                names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        except LookforwardError:
            return False
        return bool(names) and "study" not in names

    def require_same(self, plan: StudyPlan) -> None:
        """Raise LookforwardError if the file is a study of another plan, or none."""
        if self.plan() != plan:
            raise LookforwardError(
                f"{self.path} is a study of other runs or settings: give another --output.", code="study-differs"
            )

    def create(self, plan: StudyPlan) -> None:
        """Make the file, or accept one that was begun with the same plan.

        Raises:
            LookforwardError: the file is another study, or cannot be written.
        """
        if self.begun:
            self.require_same(plan)
            return
        with self.connect(write=True) as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO study (plan) VALUES (?)", (json.dumps(asdict(plan)),))

    def plan(self) -> StudyPlan:
        """How the study was made. Raises LookforwardError where the file is missing or no study."""
        with self.connect() as connection:
            row = connection.execute("SELECT plan FROM study").fetchone()
        try:
            return structure(parse_json(str(row[0]) if row else ""), StudyPlan, self.path)
        except ValueError as error:
            raise self.damaged(f"its plan is no JSON ({error})") from error

    def damaged(self, what: str) -> LookforwardError:
        """What to raise for a file that SQLite reads, with contents that no study has."""
        return LookforwardError(f"{self.path} is damaged: {what}. Restore it, or make the study again.", "file-damaged")

    def require_ready(self) -> StudyPlan:
        """The plan of a study with all its images. Raises LookforwardError where creating it was interrupted."""
        plan = self.plan()
        if not self.count_images()[1]:
            raise LookforwardError(
                f"{self.path} does not have all its images yet: run the same `lookforward study create` again.",
                code="study-unfinished",
            )
        return plan

    def count_images(self) -> tuple[int, bool]:
        """The number of images stored so far, and whether they are all there and raters can begin."""
        with self.connect() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM image").fetchone()
            row = connection.execute("SELECT ready FROM study").fetchone()
        return int(count), bool(row and row[0])

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

    def picture(self, name: str) -> bytes | None:
        with self.connect() as connection:
            row = connection.execute("SELECT png FROM picture WHERE name = ?", (name,)).fetchone()
        if row is not None and not isinstance(row[0], bytes):
            raise self.damaged(f"the picture {name} is none")
        return None if row is None else row[0]


def _store(connection: sqlite3.Connection, png: bytes) -> str:
    """Keep a picture under a random name, which tells nothing about where it comes from."""
    name = secrets.token_hex(12)
    connection.execute("INSERT INTO picture VALUES (?, ?)", (name, png))
    return name
