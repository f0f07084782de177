"""Let a vision-language model behind an endpoint rate the images of a benchmark."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from lookforward.cli.console import console, print_notes, split_words
from lookforward.errors import LookforwardError
from lookforward.records import parse_json

if TYPE_CHECKING:
    from lookforward.benchmark.judge.answers import Answers
    from lookforward.benchmark.judge.endpoint import Client, Endpoint
    from lookforward.benchmark.judge.survey import Cost, Images, Survey

ANSWERS = "judge.sqlite"


def judge(
    folder: tyro.conf.Positional[Path],
    endpoint: str,
    judge_model: str,
    key_variable: str = "",
    methods: tuple[str, ...] = (),
    images: int | None = None,
    size: int = 512,
    parameters: str = '{"temperature": 0, "max_tokens": 300}',
    workers: int = 4,
    timeout: float = 120.0,
    attempts: int = 5,
    image_tokens: int = 400,
    prompt_price: float | None = None,
    answer_price: float | None = None,
    ask_again: bool = False,
    yes: bool = False,
) -> None:
    """Rate the images of a benchmark by a vision-language model: concept preservation and prompt following, 0 to 4.

    Sends the images, and a photo of each subject, to the endpoint that you name, and to nowhere else. It first prints
    how many requests that takes and asks. Answers are kept in FOLDER/judge.sqlite, so that none is paid for twice; the
    ratings are in FOLDER/ratings.json, and `lookforward report` shows them.

    Args:
        folder: Output folder of `lookforward benchmark` or `lookforward compare`.
        endpoint: Address of an OpenAI-compatible endpoint, up to /v1, such as http://127.0.0.1:8000/v1.
        judge_model: Name of the model there. It must see images.
        key_variable: Name of the environment variable with the key. Default: no key is sent.
        methods: Methods to rate, such as untouched,dreambooth. Default: all.
        images: Number of images of each prompt to rate. Default: all.
        size: Longest side of the images that are sent, in pixels. Smaller images are sent as they are.
        parameters: Further parameters of each request, as JSON.
        workers: Number of requests at a time.
        timeout: Seconds after which a request has failed.
        attempts: Attempts at a request that fails, with a pause before each that is twice as long as the last.
        image_tokens: Tokens that one image is assumed to take, for the estimate.
        prompt_price: Price of a million tokens of requests, for the estimate.
        answer_price: Price of a million tokens of answers, for the estimate.
        ask_again: Ask again for ratings that were missing in the judge's answers.
        yes: Do not ask before the first request.
    """
    from lookforward.benchmark.judge.endpoint import Endpoint
    from lookforward.benchmark.judge.rating import ask_all
    from lookforward.benchmark.judge.survey import Images

    numbers = {"images": images, "size": size, "workers": workers, "attempts": attempts, "image-tokens": image_tokens}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise LookforwardError(f"--{name} must be at least 1.", code="count-too-small")
    if not 0 < timeout < float("inf"):
        raise LookforwardError(f"--timeout {timeout}: give a number of seconds above 0.", code="option-range")
    where = Endpoint(endpoint, judge_model, _key(key_variable), timeout, attempts, parameters=_parameters(parameters))
    rated = Images(folder, where, split_words(methods), images, size)
    with _opened(folder, where) as (answers, client):
        found = rated.survey(answers, image_tokens, ask_again)
        print_notes(found.notes)
        _state(found.cost, where, image_tokens, prompt_price, answer_price)
        if found.open and not (yes or _agreed(where)):
            console.print("Nothing was sent.")
            return
        left = set(found.open)
        asked = (item for items in rated.items() for item in items if item.digest in left)
        once = (item for item in asked if not left.remove(item.digest))  # another cell may ask the same
        ask_all(once, client, answers, size, workers, _progress(len(found.open)))
        _write(folder, where, rated, found, answers)


def _key(variable: str) -> str:
    if not variable:
        return ""
    if not variable.isidentifier():  # perhaps the key itself, which no message may show
        raise LookforwardError(
            "--key-variable takes the name of an environment variable, such as EYE_KEY.", "judge-key"
        )
    key = os.environ.get(variable, "")
    if not key:
        text = f"The environment variable {variable!r} is empty: put the key of the endpoint into it."
        raise LookforwardError(text, code="judge-key")
    return key


def _parameters(given: str) -> dict[str, Any]:
    try:
        values = parse_json(given)
    except (LookforwardError, ValueError):
        values = None
    if not isinstance(values, dict) or {"model", "messages", "stream"} & values.keys():
        text = f'--parameters {given!r}: give a JSON object such as {{"temperature": 0}}, without model and messages.'
        raise LookforwardError(text, code="judge-parameters")
    return values


@contextmanager
def _opened(folder: Path, where: "Endpoint") -> "Iterator[tuple[Answers, Client]]":
    from lookforward.benchmark.judge.answers import Answers
    from lookforward.benchmark.judge.endpoint import Client

    answers, client = Answers(folder / ANSWERS), Client(where)
    try:
        yield answers, client
    finally:
        client.close()
        answers.close()


def _state(
    cost: "Cost", where: "Endpoint", image_tokens: int, prompt_price: float | None, answer_price: float | None
) -> None:
    """What there is to ask, and what it costs."""
    known = cost.ratings - cost.requests
    console.print(f"{cost.ratings:,} ratings by {where.model} at {where.url}; {known:,} of them are there already.")
    if not cost.requests:
        return
    console.print(
        f"{cost.requests:,} requests with {cost.pictures:,} images, photos of subjects among them, go to {where.host}."
    )
    console.print(
        f"They take about {cost.prompt_tokens:,} tokens, if an image takes {image_tokens:,} (--image-tokens), and their"
        f" answers {cost.answer_tokens:,}. Answers without a rating are asked for again, at most twice."
    )
    if prompt_price is None and answer_price is None:
        console.print("Give --prompt-price and --answer-price, of a million tokens, to see what that costs.")
        return
    prices = prompt_price or 0.0, answer_price or 0.0
    price = (cost.prompt_tokens * prices[0] + cost.answer_tokens * prices[1]) / 1e6
    console.print(f"Cost: about {price:,.2f}, at {prices[0]:g} and {prices[1]:g} for a million tokens.")


def _agreed(where: "Endpoint") -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        text = f"Nothing was sent: no terminal can be asked whether all this may go to {where.host}. Add --yes."
        raise LookforwardError(text, code="judge-consent")
    console.print("Send them? Type yes:")
    try:
        return input("> ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _progress(total: int) -> Any:
    """Prints a line now and then."""
    count = {"done": 0, "missing": 0}

    def shown(answer: Any) -> None:
        count["done"] += 1
        count["missing"] += answer.rating is None
        if count["done"] == total or count["done"] % max(1, total // 20) == 0:
            console.print(f"[{count['done']:,}/{total:,}] {count['missing']:,} missing")

    return shown


def _write(folder: Path, where: "Endpoint", rated: "Images", found: "Survey", answers: "Answers") -> None:
    from lookforward.benchmark.judge.recorded import RATINGS, write_ratings

    file = rated.ratings(found, answers)
    write_ratings(folder, file)
    given = [r for cell in file.cells for r in (*cell.concept_preservation, *cell.prompt_following) if r is not None]
    missing = sum(isinstance(rating, str) for rating in given)
    spent = f"{file.prompt_tokens:,} and {file.answer_tokens:,} tokens by the endpoint's count"
    console.print(f"{len(given) - missing:,} ratings and {missing:,} missing ones, {spent}, are in {folder / RATINGS}.")
    console.print(f"`lookforward report {folder}` shows them.")
