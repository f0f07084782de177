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

import pytest
from PIL import Image

from fake_cells import FakeRunner, fake_plan, finish
from judge_endpoint import Failure, complete, is_concept, judging
from lookforward.benchmark.description import write_description
from lookforward.benchmark.reading import read_benchmark
from lookforward.benchmark.runner import prepare
from lookforward.cli.main import main
from lookforward.report.blocks import Table
from lookforward.report.data import Benchmark
from lookforward.report.judge import judge_section
from lookforward.report.overview import overview_section
from lookforward.report.render import report_sections
from lookforward.runs.lock import locked

IMAGES = 2 * 3 * 4  # subjects × methods × images of a cell
KEY = "sk-1234567890-abcdefghij"
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
    assert f"{2 * IMAGES} ratings by eye at {judge.url}; 0 of them are answered" in out
    assert f"{2 * IMAGES} requests with {3 * IMAGES} images" in out
    assert "Cost: about" in out
    assert f"{2 * IMAGES} of them are answered" in again
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
        run(folder, judge.url, "--yes", "--methods", "dino,untouched", "--workers", "1")
        judge.bodies.clear()
        assert run(folder, judge.url, "--yes", "--workers", "1")[0] == 0  # other requests of this judge were answered
        assert len(judge.bodies) == 2 * IMAGES - IMAGES * 2 // 3
    with judging(lambda *_: Failure(400, "no such parameter")) as judge:
        (folder / "judge.sqlite").unlink()
        status, _, err = run(folder, judge.url, "--yes", "--workers", "1")
        assert (status, len(judge.bodies)) == (2, 5)
        assert "no such parameter" in err
    with judging(lambda *_: "I cannot see images.") as judge:
        (folder / "judge.sqlite").unlink()
        status, _, err = run(folder, judge.url, "--yes", "--workers", "1")
        assert (status, len(judge.bodies)) == (2, 5 * 3)
        assert "I cannot see images." in err


def test_a_failing_endpoint_ends_the_command_and_keeps_what_was_answered(folder: Path, run: Run) -> None:
    with judging(lambda n, body: Failure(0) if n >= 3 else rating(n, body)) as judge:
        status, _, err = run(folder, judge.url, "--yes", "--attempts", "1", "--workers", "1")
        assert (status, len(judge.bodies)) == (2, 4)
        assert judge.url in err
        assert not (folder / "ratings.json").exists()
    with judging(rating) as judge:
        out = run(folder, judge.url, "--yes")[1]  # the same judge, at another address
        assert len(judge.bodies) == 2 * IMAGES - 3
    assert "3 of them are answered" in out
    assert "3 ratings are by a judge of the same name at http://127.0.0.1" in out
    assert json.loads((folder / "ratings.json").read_text())["endpoint"].count("http://") == 2


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
    file["cells"][1]["prompt_following"][0] = 7
    for text in (json.dumps(file), '{"endpoint": 3}'):
        (folder / "ratings.json").write_text(text)
        shown = read_benchmark(folder)
        assert shown.judge is None
        assert any("ratings.json cannot be read" in warning for warning in shown.warnings)


def test_images_that_change_while_they_are_rated(folder: Path, run: Run) -> None:
    def changing(number: int, body: dict[str, Any]) -> str:
        if number == 2 * IMAGES - 1:
            shutil.copy(folder / "images/dog6.dreambooth.0.png", folder / "images/dog6.dino.0.png")
        return rating(number, body)

    with judging(changing) as judge:
        run(folder, judge.url, "--yes", "--workers", "1")
        shown = read_benchmark(folder)
        assert any("1 cells are of other images" in warning for warning in shown.warnings)
        (folder / "images/old_vase.dino.0.png").unlink()
        judge.bodies.clear()
        out = run(folder, judge.url)[1]
    assert judge.bodies == []  # two cells have the same images now
    assert "40 ratings by eye" in out
    assert "no images of old_vase.dino.0 can be read" in out


def test_one_process_at_a_time_asks(folder: Path, run: Run) -> None:
    with judging(rating) as judge, locked(folder / "judge.lock"):
        status, _, err = run(folder, judge.url, "--yes")
    assert (status, judge.bodies) == (2, [])
    assert "Another process works in" in err


def test_the_same_images_are_asked_for_once(folder: Path, run: Run) -> None:
    shutil.copy(folder / "images/dog6.dreambooth.0.png", folder / "images/dog6.dino.0.png")
    with judging(rating) as judge:
        out = run(folder, judge.url, "--yes")[1]
    assert len(judge.bodies) == 2 * IMAGES - 8
    assert f"{2 * IMAGES} ratings by eye at {judge.url}; 0 of them are answered" in out
    assert f"{2 * IMAGES - 8} requests" in out
    assert read_benchmark(folder).images["prompt following"].eq(0.25).all()


def test_methods_that_were_rated_on_other_images_do_not_compare(folder: Path, run: Run) -> None:
    with judging(rating) as judge:
        run(folder, judge.url, "--yes", "--methods", "dino")
        assert not any("do not compare" in warning for warning in read_benchmark(folder).warnings)
        run(folder, judge.url, "--yes", "--methods", "dreambooth", "--images", "1")
    shown = read_benchmark(folder)
    assert any("do not compare" in warning for warning in shown.warnings)
    assert report_sections(shown)


def test_whom_a_user_should_know_of_before_images_are_sent(folder: Path, run: Run) -> None:
    described = json.loads((folder / "benchmark.json").read_text())
    described["subjects"][0]["class_noun"] = "little girl"
    (folder / "benchmark.json").write_text(json.dumps(described))
    out = run(folder, "http://eye.example/v1")[1]
    assert "may be people: dog6. Send their photos to eye.example only if they agree" in out
    assert "images travel unencrypted" in out
    assert "folders elsewhere" not in out
    described["subjects"][0]["photos"] = [str(folder.parent / "private" / "me.png")]
    (folder / "benchmark.json").write_text(json.dumps(described))
    assert f"1 folders elsewhere: {folder.parent / 'private'}" in run(folder, "http://eye.example/v1")[1]
    assert "unencrypted" not in run(folder, "http://127.0.0.1:9/v1")[1] + run(folder, "https://eye.example/v1")[1]


def test_a_key_is_neither_sent_to_proxies_nor_shown_in_parts(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EYE_KEY", KEY)
    words = ("--yes", "--key-variable", "EYE_KEY", "--workers", "1", "--attempts", "1")
    with judging(rating) as proxy, judging(lambda *_: Failure(500, "x" * 290 + KEY)) as judge:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        status, out, err = run(folder, judge.url, *words)
        assert (status, len(judge.bodies), proxy.bodies) == (2, 1, [])
        assert KEY[:5] not in out + err
    with judging(lambda *_: f"You are {KEY}. Score: 2") as judge:
        run(folder, judge.url, *words, "--methods", "dino", "--images", "1")
        assert len(judge.bodies) == 8
        assert all(KEY.encode() not in path.read_bytes() for path in folder.glob("*.*") if path.is_file())
        monkeypatch.setenv("EYE_KEY", f"{KEY}\nand more")
        _, out, err = run(folder, judge.url, *words)
        assert len(judge.bodies) == 8
        assert KEY not in out + err
        assert "check the variable" in err


def test_text_and_counts_that_no_file_can_hold(folder: Path, run: Run) -> None:
    evil = complete("\ud800\x1b[2J<b>\x00", prompt_tokens=2**64 - 1, completion_tokens=-5)
    words = ("--yes", "--methods", "dino", "--images", "1")
    with judging(lambda _, body: Failure(200, evil) if is_concept(body) else "Score: 4") as judge:
        status, out, err = run(folder, judge.url, *words)
    assert (status, err) == (0, "")
    assert "2,000 and 80 tokens" in out
    lost = tables(read_benchmark(folder))[1]
    assert all("\x1b" not in why and "<b>" in why for _, _, why in lost.rows)


def test_what_was_spent_counts_when_a_rating_is_asked_for_again(folder: Path, run: Run) -> None:
    words = ("--yes", "--methods", "dino", "--images", "1")
    with judging(lambda _, body: "Lovely!" if is_concept(body) else "Score: 4") as judge:
        assert f"{500 * 16:,} and" in run(folder, judge.url, *words)[1]
        assert f"{500 * 28:,} and" in run(folder, judge.url, *words, "--ask-again")[1]


@pytest.mark.parametrize("words", [("--parameters", "[1]"), ("--parameters", '{"model": "a"}'), ("--images", "0"),
                                   ("--timeout", "nan"), ("--prompt-price", "-1"), ("--answer-price", "inf"),
                                   ("--parameters", '{"n": 9}'), ("--methods", "nobody")])  # fmt: skip
def test_options_that_are_wrong(folder: Path, run: Run, words: tuple[str, str]) -> None:
    status, _, err = run(folder, "http://127.0.0.1:9/v1", *words)
    assert status == 2
    assert words[0].lstrip("-").rstrip("s") in err


def test_a_file_of_answers_that_is_none(folder: Path, run: Run) -> None:
    (folder / "judge.sqlite").write_bytes(b"nothing of the kind" * 100)
    status, _, err = run(folder, "http://127.0.0.1:9/v1")
    assert status == 2
    assert "judge.sqlite" in err
