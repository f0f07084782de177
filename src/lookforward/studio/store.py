"""What the studio remembers, in one SQLite file: the queue, subjects' words and consent, picked steps, raters' servers.

Each use opens a connection of its own, and each change is a transaction flushed to the disk, so that nothing is lost
when the studio ends, however it ends.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lookforward.errors import LookforwardError
from lookforward.records import parse_json, structure

State = Literal["waiting", "running", "stopping", "stopped", "failed", "done"]
_JOB = ("id", "run", "words", "state", "pid", "born", "message")
OPEN: tuple[State, ...] = ("waiting", "running", "stopping")
_STUDY = "study:"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, run TEXT NOT NULL, words TEXT NOT NULL, state TEXT NOT NULL,
  pid INTEGER NOT NULL DEFAULT 0, born REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
  created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS subject (name TEXT PRIMARY KEY, class_noun TEXT NOT NULL DEFAULT '',
  consent TEXT NOT NULL DEFAULT '', consented TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS pick (run TEXT PRIMARY KEY, export TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS server (study TEXT PRIMARY KEY, pid INTEGER NOT NULL, born REAL NOT NULL);
"""


@dataclass(frozen=True)
class Job:
    """One command to run. run: the run that it is about, or `study_key` of a study. words: of `lookforward`. pid, born:
    of its process, and when that started; message: why it ended."""

    id: int
    run: str
    words: list[str]
    state: State
    pid: int
    born: float
    message: str

    @property
    def study(self) -> str:
        """The study that it creates; "" for a job of a run."""
        return self.run.removeprefix(_STUDY) if self.run.startswith(_STUDY) else ""


def study_key(name: str) -> str:
    """What a job of a study has for a run: no run can have this name."""
    return _STUDY + name


@dataclass(frozen=True)
class SubjectRecord:
    """class_noun: what the subject is. consent: the statement that was agreed to, "" for none; consented: when."""

    class_noun: str = ""
    consent: str = ""
    consented: str = ""


class Store:
    """The file. It is made if it is not there.

    Raises:
        LookforwardError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connect() as connection:
            connection.executescript(_SCHEMA)

    def add_job(self, run: str, words: Sequence[str]) -> int:
        """Put a command at the end of the queue; returns its number.

        Raises:
            LookforwardError: the run is in the queue already.
        """
        with self._connect() as connection:
            marks = ",".join("?" * len(OPEN))
            if connection.execute(f"SELECT 1 FROM job WHERE run = ? AND state IN ({marks})", (run, *OPEN)).fetchone():
                raise LookforwardError(f"{run} is already in the queue: wait for it, or stop it.", "job-twice")
            row = (run, json.dumps(list(words)), "waiting", _now())
            sql = "INSERT INTO job (run, words, state, created) VALUES (?, ?, ?, ?)"
            return int(connection.execute(sql, row).lastrowid or 0)

    def jobs(self, *states: State) -> list[Job]:
        """All jobs, or those in some states, in the order of the queue."""
        with self._connect() as connection:
            rows = connection.execute(f"SELECT {', '.join(_JOB)} FROM job ORDER BY id")
            found = [dict(zip(_JOB, row, strict=True)) for row in rows]
        try:
            listed = [{**one, "words": parse_json(str(one["words"]))} for one in found]
            jobs = structure(listed, list[Job], self.path)
        except (LookforwardError, ValueError) as error:
            raise self._unusable(error) from error
        return [job for job in jobs if not states or job.state in states]

    def last_job(self, run: str) -> Job | None:
        """The last one of a run."""
        return next((job for job in reversed(self.jobs()) if job.run == run), None)

    def change_job(self, number: int, *, only_from: Sequence[State] = (), **values: Any) -> bool:
        """Set the state, pid, born or message of a job; returns whether it was in one of the states `only_from`."""
        if unknown := values.keys() - {"state", "pid", "born", "message"}:
            raise ValueError(f"a job has no {unknown}")
        sets = ", ".join(f"{name} = ?" for name in values)
        where = f" AND state IN ({','.join('?' * len(only_from))})" if only_from else ""
        with self._connect() as connection:
            sql = f"UPDATE job SET {sets} WHERE id = ?{where}"
            return connection.execute(sql, (*values.values(), number, *only_from)).rowcount > 0

    def forget_run(self, run: str) -> None:
        """Forget the jobs of a run, and the step that was picked."""
        with self._connect() as connection:
            connection.execute("DELETE FROM job WHERE run = ?", (run,))
            connection.execute("DELETE FROM pick WHERE run = ?", (run,))

    def subject(self, name: str) -> SubjectRecord:
        """What is known of a subject."""
        with self._connect() as connection:
            sql = "SELECT class_noun, consent, consented FROM subject WHERE name = ?"
            row = connection.execute(sql, (name,)).fetchone()
        return SubjectRecord(*map(str, row)) if row else SubjectRecord()

    def set_subject(self, name: str, class_noun: str, consent: str | None = None) -> None:
        """Remember what a subject is, and the statement of consent; "" withdraws it, and None leaves it."""
        before = self.subject(name)
        statement = before.consent if consent is None else consent
        when = before.consented if statement == before.consent else _now() if statement else ""
        with self._connect() as connection:
            sql = "INSERT OR REPLACE INTO subject (name, class_noun, consent, consented) VALUES (?, ?, ?, ?)"
            connection.execute(sql, (name, class_noun, statement, when))

    def picked(self, run: str) -> str:
        """The export of a run that the user chose; "" for the run's own choice."""
        with self._connect() as connection:
            row = connection.execute("SELECT export FROM pick WHERE run = ?", (run,)).fetchone()
        return str(row[0]) if row else ""

    def pick(self, run: str, export: str) -> None:
        """Choose an export of a run."""
        with self._connect() as connection:
            connection.execute("INSERT OR REPLACE INTO pick (run, export) VALUES (?, ?)", (run, export))

    def server(self, study: str) -> tuple[int, float] | None:
        """The process that shows a study to raters, and when it started; None if none was started."""
        with self._connect() as connection:
            return connection.execute("SELECT pid, born FROM server WHERE study = ?", (study,)).fetchone()

    def servers(self) -> list[str]:
        """The studies for which a process was started."""
        with self._connect() as connection:
            return [study for (study,) in connection.execute("SELECT study FROM server ORDER BY study")]

    def set_server(self, study: str, pid: int, born: float) -> None:
        """Remember the process that shows a study."""
        with self._connect() as connection:
            connection.execute("INSERT OR REPLACE INTO server (study, pid, born) VALUES (?, ?, ?)", (study, pid, born))

    def forget_server(self, study: str) -> None:
        """Forget the process that showed a study."""
        with self._connect() as connection:
            connection.execute("DELETE FROM server WHERE study = ?", (study,))

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """A connection with one transaction, kept at its end or undone by an error."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> LookforwardError:
        return LookforwardError(
            f"{self.path} cannot be used ({error}): check its permissions, or move it away to begin a new queue.",
            "studio-file",
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
