"""The endpoint of a judge: failures, hostile answers, addresses; and how a rating is read from an answer."""

import gzip
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from errors import raises
from judge_endpoint import Failure, complete, judging
from lookforward.benchmark.judge.answers import digest_of
from lookforward.benchmark.judge.endpoint import Client, Endpoint, RequestRefused, user_message
from lookforward.benchmark.judge.questions import concept_question, prompt_question, read_rating


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
    with judging(lambda *_: time.sleep(0.3) or "late") as judge, raises("judge-endpoint", "ReadTimeout"):
        ask(judge.url, attempts=1, timeout=0.05)


def test_pauses_double() -> None:
    waited: list[float | None] = []
    with judging(lambda *_: Failure(503)) as judge:
        client = Client(Endpoint(judge.url, "eye", attempts=5, pause=25.0))
        client.stop.wait = lambda timeout=None: bool(waited.append(timeout))  # type: ignore[method-assign]
        with raises("judge-endpoint"):
            client.ask([user_message("Hello")])
        client.close()
    assert waited == [25.0, 50.0, 60.0, 60.0]


@pytest.mark.parametrize(
    "failure",
    [
        Failure(200, gzip.compress(b"[" + b" " * 50_000_000), {"content-encoding": "gzip"}),
        Failure(200, complete("Score: 3") + " " * 5_000_000),
        Failure(200, complete("Score: 3"), pause=0.02),
        Failure(200, "[" * 100_000),
        Failure(200, b"\xff\xfe"),
        Failure(200, b"no gzip", {"content-encoding": "gzip"}),
        Failure(503, "x", {"content-type": "text/plain; charset=nonsense"}),
    ],
    ids=("bomb", "huge", "slow", "deep", "bytes", "damaged", "charset"),
)
def test_answers_that_are_meant_to_harm(failure: Failure) -> None:
    tracemalloc.start()
    try:
        with judging(lambda *_: failure) as judge, raises("judge-endpoint", judge.url):
            ask(judge.url, attempts=1, timeout=0.5)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()


def test_nothing_goes_to_an_address_that_was_not_named() -> None:
    with judging(lambda *_: "Score: 3") as other:
        moved = Failure(307, headers={"location": f"{other.url}/chat/completions"})
        with judging(lambda *_: moved) as judge, raises("judge-endpoint", "307"):
            ask(judge.url)
    assert (len(judge.bodies), len(other.bodies)) == (1, 0)


def test_a_refused_request_says_why() -> None:
    with judging(lambda *_: Failure(422, "unsafe")) as judge, pytest.raises(RequestRefused, match="unsafe"):
        ask(judge.url)


@pytest.mark.parametrize(
    "url",
    [
        "", "eye", "ftp://eye/v1", "http:///v1", "http://me:sk-1@eye/v1", "http://eye/v1?key=sk-1", "http://eye/v1#sk-1",
        "http://eye/v1?", "http://eye\n/v1", "http://eye:99999/v1", "http://eye:abc/v1", "http://[::1/v1",
        "http://e e/v1",
    ],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with raises("judge-url") as caught:
        Endpoint(url, "eye")
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Score: 3", 3), ("shape: fine\n**Score:** 4.", 4), ("Score (0-4): 2", 2), ("score: 3/4", 3), ("2", 2),
        ("Score: 0", 0),
        ("A score: 1 would be harsh.\nScore: 3", 3), ("Score: 5", None), ("Score: 3.5", None), ("10", None), ("", None),
        ("I cannot see images.", None), ("Score: N", None), ("Score: NaN", None), ("Score: Infinity", None),
        ("Score: -1", None), ("-3", None), ("Score: 1e3", None), ("Score: 3,5", None), ("Score: 3.5x", None),
        ("Score: 2-3", None), ("Score: 2 or 3", None), ("Score: between 2 and 3", None), ("Score 0-4: 2", None),
        ("4/4", 4), ("Score: 3/10", None), ("Score: 3 out of 5", None), ("Score: 3 of 5", None),
        ("Score: 3 (out of 5)", None),
        ("Shape score: 4\nColour score: 1", None), ("Final score: 2", 2), ('{"score": 3}', 3),
        ("All fine. Score: 3", 3),
        ("Score: 3\n- 2 ears are missing", 3),
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
