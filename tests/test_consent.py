"""Consent: who is asked for it, and what is recorded."""

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import raises
from jobs import SETTINGS, Command, as_options
from lookforward import personalize
from lookforward.assembly.consent import agreement
from lookforward.data.people import PEOPLE, signs_of_people
from lookforward.data.photo import Photo
from lookforward.data.subject import Subject
from lookforward.runs.consent import CONSENT, consent_now, photos_digest, read_consent
from lookforward.runs.folder import SETTINGS as SETTINGS_FILE
from lookforward_toybox.subjects import find_subject
from lookforward_toybox.world.subject import held_out

DREAMBOOTH = (
    "backpack", "stuffed animal", "bowl", "can", "candle", "cat", "clock", "sneaker", "dog", "toy", "boot", "cartoon",
    "glasses", "vase", "teapot",
)  # fmt: skip


def subject_of(noun: str, *captions: str) -> Subject:
    pixels = np.zeros((8, 8, 3), np.uint8)
    photos = tuple(
        Photo(Path(f"{i}.png"), pixels, f"{i:064d}", (8, 8), (8, 8), (), False, caption=text)  # type: ignore[call-arg]
        for i, text in enumerate(captions or ("",))
    )
    return Subject("sks", noun, photos)


@pytest.mark.parametrize("noun", ["person", "young Women", "grandmothers", "face", "old man", "baby"])
def test_class_nouns_of_people(noun: str) -> None:
    assert noun in signs_of_people(subject_of(noun))[0]


@pytest.mark.parametrize(("caption", "sign"), [("her Face, smiling", "'Face'"), ("my  sister", "'my  sister'")])
def test_captions_of_people(caption: str, sign: str) -> None:
    assert sign in signs_of_people(subject_of("dog", "a dog", caption))[0]
    further = subject_of("dog")
    more = dataclasses.replace(further.photos[0], more_captions=(caption,))
    assert signs_of_people(
        dataclasses.replace(subject_of("cat"), others=(dataclasses.replace(further, photos=(more,)),))
    )


def test_other_subjects_show_no_people() -> None:
    nouns = {*DREAMBOOTH, *(find_subject(name).class_noun for name in held_out())}
    for noun in nouns:
        assert signs_of_people(subject_of(noun, "the surface of a myth, facet by facet")) == ()
    assert all(word == word.casefold() for word in PEOPLE)


def test_a_statement_is_demanded_noted_or_kept(tmp_path: Path) -> None:
    woman, dog = subject_of("woman", "a", "b"), subject_of("dog")
    with raises("consent-missing", "'woman'", "--consent"):
        agreement(tmp_path, woman).require()
    assert agreement(tmp_path, woman).open
    agreement(tmp_path, dog).require()
    assert "--consent" in agreement(tmp_path, dog).notes[0]
    given = agreement(tmp_path, woman, " She  agrees. ")
    given.require()
    assert given.consent is not None
    assert (given.consent.statement, given.notes, given.open) == ("She agrees.", (), False)
    given.consent.write(tmp_path)
    again = agreement(tmp_path, woman)
    assert (again.consent, again.notes, again.open) == (given.consent, (), False)
    assert given.consent.date in agreement(tmp_path, woman, "Another one.").notes[0]
    assert agreement(tmp_path, woman, "Another one.").consent == given.consent
    (tmp_path / CONSENT).write_text("{}")
    with raises("file-damaged", CONSENT):
        agreement(tmp_path, woman)


def test_a_run_that_has_begun_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).touch()
    begun = agreement(tmp_path, subject_of("woman"))
    begun.require()
    assert (begun.open, len(begun.notes)) == (False, 1)
    assert agreement(tmp_path, subject_of("woman"), "She agrees.").consent is not None


@pytest.mark.parametrize("text", ["x" * 501, "a\x1b[0m", " \t"])
def test_a_statement_is_a_line_of_text(text: str) -> None:
    with raises("consent-text"):
        consent_now(text, [])


def test_the_digest_of_photos_knows_them_in_any_order_and_with_any_caption() -> None:
    one, other = "a" * 64, "b" * 64
    assert photos_digest([one, other]) == photos_digest(
        [f"{other} caption {'c' * 64}", one, "class x", "subject a dog"]
    )
    assert photos_digest([one]) != photos_digest([other])


def test_train_asks_in_a_terminal_alone(
    command_line: Command, photos: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    short: dict[str, Any] = {**SETTINGS, "run.steps": 1, "adapter.name": "textual-inversion"}
    asked = ["train", photos, "--class-noun", "man", "--model", tiny_model, "--output", run, *as_options(short)]
    code, _, problem = command_line(*asked)
    assert (code, "--consent" in problem, run.exists()) == (2, True, False)
    code, output, _ = command_line(*asked, "--dry-run")
    assert (code, "--consent" in output) == (0, True)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("\nHe agrees.\n"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    code, output, problem = command_line(*asked)  # an empty answer
    assert (code, "--consent" in problem, "Who took these photos" in output) == (2, True, True)
    code, output, problem = command_line(*asked)
    assert (code, problem) == (0, "")
    consent = read_consent(run)
    assert consent is not None
    assert consent.statement == "He agrees."
    again = [word if word != "1" else "2" for word in map(str, asked)]
    code, output, _ = command_line(*again)
    assert (code, "Who took these photos" in output) == (0, False)
    assert read_consent(run) == consent


def test_personalize_takes_a_statement(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "run.steps": 1, "adapter.name": "textual-inversion"}
    with raises("consent-missing"):
        personalize(photos, "girl", model=str(tiny_model), output=tmp_path / "run", settings=settings)
    personalize(
        photos, "girl", model=str(tiny_model), output=tmp_path / "run", settings=settings, consent="Her parents agree."
    )
    consent = read_consent(tmp_path / "run")
    assert consent is not None
    assert consent.statement == "Her parents agree."
