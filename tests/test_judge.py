"""`lookforward judge`: says what it costs, asks before it sends, pays for nothing twice, and states what is missing."""

import base64
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from errors import raises
from fake_cells import FakeRunner, fake_plan, finish
from judge_endpoint import Failure, is_concept, judging
from lookforward.benchmark.description import write_description
from lookforward.benchmark.judge.answers import digest_of
from lookforward.benchmark.judge.endpoint import Client, Endpoint, RequestRefused, user_message
from lookforward.benchmark.judge.questions import concept_question, prompt_question, read_rating
from lookforward.benchmark.reading import read_benchmark
from lookforward.benchmark.runner import prepare
from lookforward.cli.main import main
from lookforward.errors import LookforwardError
from lookforward.report.blocks import Table
from lookforward.report.data import Benchmark
from lookforward.report.judge import judge_section
from lookforward.report.overview import overview_section
from lookforward.report.render import report_sections

IMAGES = 2 * 3 * 4  # subjects × methods × images of a cell
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    plan = fake_plan(folder / "photos", seeds=1)
    prepare(plan, folder)
    write_description(plan, folder, "toybox")
    finish(plan, folder, FakeRunner(folder / "ledger"))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A benchmark whose ratings are this test's own."""
    return shutil.copytree(whole, tmp_path / "benchmark")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(folder: Path, url: str, *words: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["judge", str(folder), "--endpoint", url, "--judge-model", "eye", *words])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def tables(shown: Benchmark) -> list[Table]:
    """Of the section of the ratings."""
    section = judge_section(shown)
    assert section is not None
    return [block for block in section.blocks if isinstance(block, Table)]


def rating(number: int, body: dict[str, Any]) -> str:
    return "Fine.\nScore: 3" if is_concept(body) else "**Score: 1**"


def picture(part: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))


def test_every_image_is_rated_once_and_the_report_shows_it(folder: Path, run: Run) -> None:
    with judging(rating) as judge:
        status, out, err = run(folder, judge.url, "--yes", "--prompt-price", "2.5", "--answer-price", "10")
        assert (status, err) == (0, "")
        assert len(judge.bodies) == 2 * IMAGES
        status, again, _ = run(folder, judge.url)  # no question, since nothing is to be sent
        assert (status, len(judge.bodies)) == (0, 2 * IMAGES)
    assert f"{2 * IMAGES} ratings by eye at {judge.url}; 0 of them are there" in out
    assert f"{2 * IMAGES} requests with {3 * IMAGES} images" in out
    assert "Cost: about" in out
    assert f"{2 * IMAGES} of them are there already" in again
    assert "requests with" not in again
    assert set(judge.paths) == {"/v1/chat/completions"}
    assert set(judge.keys) == {None}
    body = next(body for body in judge.bodies if is_concept(body))
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("eye", 0, 300)
    text, reference, drawn = body["messages"][0]["content"]
    assert any(noun in text["text"] for noun in ("dog", "vase"))
    assert (picture(reference).size, picture(drawn).size) == ((32, 32), (16, 16))
    shown = read_benchmark(folder)
    assert shown.images["concept preservation"].eq(0.75).all()
    assert shown.images["prompt following"].eq(0.25).all()
    (table,) = tables(shown)
    assert table.rows[0][1:] == ["16", "0", "0.750 ± 0.000", "0.250 ± 0.000", "0.188"]
    assert "Ratings by a judge" in [section.title for section in report_sections(shown)]


def test_nothing_is_sent_without_a_yes(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with judging(rating) as judge:
        status, out, err = run(folder, judge.url)
        assert status == 2
        assert "--yes" in err
        assert f"{2 * IMAGES} requests" in out  # the cost comes first
        for stream in ("stdin", "stdout"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
        monkeypatch.setattr("builtins.input", lambda _: "no")
        assert run(folder, judge.url)[0] == 0
        assert judge.bodies == []
        monkeypatch.setattr("builtins.input", lambda _: "yes")
        run(folder, judge.url, "--images", "1", "--methods", "dino")
        assert len(judge.bodies) == 2 * 2 * 2  # subjects × prompts × questions
        run(folder, judge.url, "--images", "1", "--methods", "untouched")
    assert len(judge.bodies) == 2 * 2 * 2 * 2
    rated = read_benchmark(folder).images.groupby("method")["prompt following"].count()
    assert dict(rated) == {"dino": 4, "dreambooth": 0, "untouched": 4}  # what an earlier call asked for is kept


def test_answers_without_a_rating_are_asked_again_and_then_missing(folder: Path, run: Run) -> None:
    def nonsense(number: int, body: dict[str, Any]) -> str:
        return "Lovely!" if is_concept(body) else "Score: 4"

    words = ("--methods", "dino", "--images", "1")
    with judging(nonsense) as judge:
        run(folder, judge.url, "--yes", *words)
        assert len(judge.bodies) == 4 * 3 + 4
        assert max(len(body["messages"]) for body in judge.bodies) == 3
        run(folder, judge.url, *words)
        assert len(judge.bodies) == 4 * 3 + 4  # neither are missing ratings paid for twice
        shown = read_benchmark(folder)
        ratings, lost = tables(shown)
        assert [row[:3] for row in ratings.rows if row[2] != "0"] == [[shown.label("dino"), "4", "4"]]
        assert len(lost.rows) == 4
        assert all("Lovely!" in why and "image" in where for where, _, why in lost.rows)
        assert "4 of 8 ratings by eye are missing" in str(overview_section(shown))
        run(folder, judge.url, *words, "--ask-again", "--yes")
        assert len(judge.bodies) == 4 * 3 * 2 + 4
    assert "prompt following" in shown.scores
    assert shown.images["concept preservation"].isna().all()


def test_refused_requests_are_missing_and_asked_again(folder: Path, run: Run) -> None:
    def filtering(number: int, body: dict[str, Any]) -> str | Failure:
        return Failure(400, "content filter") if is_concept(body) else "Score: 4"

    words = ("--methods", "dino", "--images", "1", "--yes", "--workers", "1")
    with judging(filtering) as judge:
        assert run(folder, judge.url, *words)[0] == 0
        assert len(judge.bodies) == 8
        assert "content filter" in (folder / "ratings.json").read_text()
        run(folder, judge.url, *words)
        assert len(judge.bodies) == 8 + 4
    with judging(lambda *_: Failure(400, "no such parameter")) as judge:
        (folder / "judge.sqlite").unlink()
        status, _, err = run(folder, judge.url, "--yes", "--workers", "1")
        assert (status, len(judge.bodies)) == (2, 5)
        assert "no such parameter" in err


def test_a_failing_endpoint_ends_the_command_and_keeps_what_was_answered(folder: Path, run: Run) -> None:
    with judging(lambda n, body: Failure(0) if n >= 3 else rating(n, body)) as judge:
        status, _, err = run(folder, judge.url, "--yes", "--attempts", "1", "--workers", "1")
        assert (status, len(judge.bodies)) == (2, 4)
        assert judge.url in err
        assert not (folder / "ratings.json").exists()
    with judging(rating) as judge:
        out = run(folder, judge.url, "--yes")[1]  # the same judge, at another address
        assert len(judge.bodies) == 2 * IMAGES - 3
    assert "3 of them are there already" in out


def test_a_stop_keeps_the_answers_under_way(folder: Path, run: Run) -> None:
    def stopping(number: int, body: dict[str, Any]) -> str:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return rating(number, body)

    with judging(stopping) as judge:
        assert run(folder, judge.url, "--yes", "--workers", "2")[0] == 130
        sent = len(judge.bodies)
        assert 3 <= sent < 2 * IMAGES
    with judging(rating) as judge:
        run(folder, judge.url, "--yes")
        assert len(judge.bodies) == 2 * IMAGES - sent


def test_the_key_comes_from_a_variable_and_is_never_shown(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EYE_KEY", "s3cret")
    with judging(lambda *_: Failure(401, "bad key s3cret")) as judge:
        status, out, err = run(folder, judge.url, "--yes", "--key-variable", "EYE_KEY", "--workers", "1")
        assert status == 2
        assert judge.keys == ["Bearer s3cret"]
        assert "bad key …" in err
        assert "s3cret" not in out + err
        assert "EYE_KEX" in run(folder, judge.url, "--yes", "--key-variable", "EYE_KEX")[2]
        assert "sk-12" not in run(folder, judge.url, "--yes", "--key-variable", "sk-12")[2]
        assert len(judge.keys) == 1
    assert b"s3cret" not in (folder / "judge.sqlite").read_bytes()


def test_ratings_of_other_images_do_not_count(folder: Path, run: Run) -> None:
    with judging(rating) as judge:
        run(folder, judge.url, "--yes")
    file = json.loads((folder / "ratings.json").read_text())
    file["cells"][0]["images"] = "0" * 16
    (folder / "ratings.json").write_text(json.dumps(file))
    shown = read_benchmark(folder)
    assert shown.images["concept preservation"].isna().sum() == 4
    assert any("1 cells are of other images" in warning for warning in shown.warnings)
    (folder / "ratings.json").write_text('{"endpoint": 3}')
    shown = read_benchmark(folder)
    assert shown.judge is None
    assert any("ratings.json cannot be read" in warning for warning in shown.warnings)


def ask(url: str, **options: Any) -> str:
    client = Client(Endpoint(url, "eye", **{"pause": 0.01, **options}))
    try:
        return client.ask([user_message("Hello")]).text
    finally:
        client.close()


@pytest.mark.parametrize(
    "failure",
    [
        Failure(429, headers={"retry-after": "0.02"}), Failure(503), Failure(0), Failure(200, "<html>"),
        Failure(200, '{"choices": []}'), Failure(429, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ],
)  # fmt: skip
def test_failures_that_pass_are_tried_again(failure: Failure) -> None:
    with judging(lambda n, _: failure if n < 2 else "hello") as judge:
        assert ask(judge.url) == "hello"
        assert len(judge.bodies) == 3
    with judging(lambda *_: failure) as judge, raises("judge-endpoint", judge.url):
        ask(judge.url, attempts=2)
    assert len(judge.bodies) == 2


def test_a_slow_endpoint_is_not_waited_for() -> None:
    import time

    with judging(lambda *_: time.sleep(0.3) or "late") as judge, raises("judge-endpoint", "ReadTimeout"):
        ask(judge.url, attempts=1, timeout=0.05)


def test_nothing_goes_to_an_address_that_was_not_named() -> None:
    with judging(rating) as other:
        moved = Failure(307, headers={"location": f"{other.url}/chat/completions"})
        with judging(lambda *_: moved) as judge, raises("judge-endpoint", "307"):
            ask(judge.url)
    assert (len(judge.bodies), len(other.bodies)) == (1, 0)


def test_a_refused_request_says_why() -> None:
    with judging(lambda *_: Failure(422, "unsafe")) as judge, pytest.raises(RequestRefused, match="unsafe"):
        ask(judge.url)


@pytest.mark.parametrize("url", ["", "eye", "ftp://eye/v1", "http:///v1", "http://me:key@eye/v1", "http://eye/v1?a=b"])
def test_addresses_that_are_none(url: str) -> None:
    with raises("judge-url") as caught:
        Endpoint(url, "eye")
    assert "me:key" not in str(caught.value)


@pytest.mark.parametrize("words", [("--parameters", "[1]"), ("--parameters", '{"model": "a"}'), ("--images", "0"),
                                   ("--timeout", "nan"), ("--methods", "nobody")])  # fmt: skip
def test_options_that_are_wrong(folder: Path, run: Run, words: tuple[str, str]) -> None:
    status, _, err = run(folder, "http://127.0.0.1:9/v1", *words)
    assert status == 2
    assert words[0].lstrip("-").rstrip("s") in err


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Score: 3", 3), ("shape: fine\n**Score:** 4.", 4), ("Score (0-4): 2", 2), ("score: 3/4", 3), ("2", 2),
        ("Score: 0", 0),
        ("A score: 1 would be harsh.\nScore: 3", 3), ("Score: 5", None), ("Score: 3.5", None), ("10", None), ("", None),
        ("I cannot see images.", None), ("Score: N", None),
    ],
)  # fmt: skip
def test_ratings_in_answers(answer: str, found: int | None) -> None:
    assert read_rating(answer) == found


def test_answers_are_known_by_all_that_decides_them() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    given: tuple[Any, ...] = ("eye", "How good?", (image, image), {"temperature": 0}, 512)
    others: list[tuple[Any, ...]] = [
        ("ear", *given[1:]),
        ("eye", "How bad?", *given[2:]),
        (*given[:2], (image, image + 1), *given[3:]),
        (*given[:2], (image.reshape(6, 4, 3), image), *given[3:]),
        (*given[:2], (image,), *given[3:]),
        (*given[:3], {"temperature": 1}, 512),
        (*given[:4], 256),
    ]
    same: tuple[Any, ...] = (*given[:2], (image.copy(), image), *given[3:])
    assert digest_of(*given) == digest_of(*same)
    assert len({digest_of(*one) for one in (given, *others)}) == len(others) + 1


def test_styles_are_asked_for_as_styles() -> None:
    assert "style" in concept_question("ukiyo-e", True).splitlines()[0]
    assert "identity" in concept_question("dog", False)
    assert '"a dog on the beach"' in prompt_question("a dog on the beach")


def test_a_file_of_answers_that_is_none(folder: Path, run: Run) -> None:
    (folder / "judge.sqlite").write_bytes(b"nothing of the kind" * 100)
    status, _, err = run(folder, "http://127.0.0.1:9/v1")
    assert status == 2
    assert "judge.sqlite" in err
    assert issubclass(RequestRefused, LookforwardError)
