"""SQLite files: a blind study, the studio's queue, a judge's answers; as rows that an input lists or as bytes."""

import sqlite3
from contextlib import closing
from pathlib import Path

from fuzz.common import NoInput, as_json, attempt, place
from lookforward.benchmark.judge.answers import _SCHEMA as ANSWERS
from lookforward.benchmark.judge.answers import Answer, Answers
from lookforward.report.render import markdown_page
from lookforward.studio.store import _SCHEMA as STUDIO
from lookforward.studio.store import Store
from lookforward.study.findings import study_sections
from lookforward.study.raters import Raters
from lookforward.study.store import _SCHEMA as STUDY
from lookforward.study.store import StudyFile

_KEY = "key"  # of the rater who goes on


def _database(name: str, schema: str, data: bytes) -> Path:
    """A file with the rows that a JSON table of tables has."""
    tables = as_json(data)
    path = place() / name
    path.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(schema)
            for table, rows in tables.items():
                for row in rows:
                    marks = ",".join("?" * len(row))
                    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", [_value(one) for one in row])
    except (sqlite3.Error, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise NoInput from error
    return path


def _value(one: object) -> object:
    """["x"] stands for the bytes of a text."""
    return str(one[0]).encode("utf-8", "replace") if isinstance(one, list) and one else one


def _use_study(path: Path) -> None:
    study, raters = StudyFile(path), Raters(StudyFile(path))
    plan = study.require_ready()
    study.has_image("dog", "a {}", "dreambooth")
    assert all(isinstance(one.last, str) for one in raters.progress())
    markdown_page("Study", study_sections(plan, raters.answers()), "")
    question = raters.next_question(_KEY)
    if question is not None:
        for name in (question.left, question.right, *question.references):
            assert isinstance(study.picture(name), bytes | None)
        raters.answer(_KEY, question.number, "left", "similar")
    if raters.knows(_KEY):
        raters.next_question(raters.begin())


def study(data: bytes) -> None:
    _use_study(_database("study.sqlite", STUDY, data))


def study_file(data: bytes) -> None:
    path = place() / "study-file.sqlite"
    path.write_bytes(data)
    _use_study(path)


def _use_studio(path: Path) -> None:
    store = Store(path)
    for job in store.jobs("waiting", "running", "done"):
        assert all(isinstance(word, str) for word in job.words)
        store.change_job(job.id, message="seen")
    store.last_job("run")
    assert isinstance(store.subject("dog").class_noun, str)
    store.set_subject("dog", "dog", None)
    assert isinstance(store.picked("run"), str)


def studio(data: bytes) -> None:
    _use_studio(_database("studio.sqlite", STUDIO, data))


def studio_file(data: bytes) -> None:
    path = place() / "studio-file.sqlite"
    path.write_bytes(data)
    _use_studio(path)


def answers(data: bytes) -> None:
    """What judges answered, kept so that nothing is paid for twice."""
    kept = Answers(_database("answers.sqlite", ANSWERS, data))
    try:
        found = kept.get("digest")
        assert found is None or found.rating in (None, 0, 1, 2, 3, 4)
        kept.put("other", Answer(3))
    finally:
        kept.close()


READERS = (study, study_file, studio, studio_file, answers)


def TestOneInput(data: bytes) -> None:
    attempt(READERS, data)
