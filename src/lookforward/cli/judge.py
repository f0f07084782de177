"""Let a vision-language model behind an endpoint rate the images of a benchmark."""

import os
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from lookforward.cli.console import console, print_notes, split_words
from lookforward.errors import LookforwardError
from lookforward.files import write_json
from lookforward.records import parse_json

if TYPE_CHECKING:
    from lookforward.benchmark.judge.answers import Answers
    from lookforward.benchmark.judge.endpoint import Client, Endpoint
    from lookforward.benchmark.judge.survey import Images, Survey

ANSWER_TOKENS = 120  # of an answer, about
LETTERS = 4  # of a token, about
RESERVED = {"model", "messages", "stream", "n"}  # parameters that are ours; n is the number of answers


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
    """Let a vision-language model rate the images of a benchmark: concept preservation and prompt following, 0 to 4.

    It sends the images, prompts and a photo of each subject to the endpoint that you name and to no other. It first
    prints how many requests that takes, and asks. FOLDER/judge.sqlite keeps the answers, so that none is paid for
    twice. The ratings are in FOLDER/ratings.json; `lookforward report` shows them.

    Args:
        folder: Output folder of `lookforward benchmark` or `lookforward compare`.
        endpoint: Address of an OpenAI-compatible endpoint, up to /v1, such as http://127.0.0.1:8000/v1.
        judge_model: Name of the model there. It must see images.
        key_variable: Name of the environment variable that holds the key. Default: no key is sent.
        methods: Methods to rate, such as untouched,dreambooth. Default: all.
        images: Number of images of each prompt to rate. Default: all.
        size: Longest side of the images that are sent, in pixels. Smaller images are sent as they are.
        parameters: Further parameters of each request, as JSON.
        workers: Number of requests at a time.
        timeout: Seconds after which a request has failed.
        attempts: Attempts at a request that fails. Each pause between them is twice as long as the one before.
        image_tokens: Tokens that one image is assumed to take, for the estimate.
        prompt_price: Price of a million tokens of requests, for the estimate.
        answer_price: Price of a million tokens of answers, for the estimate.
        ask_again: Ask again for ratings that are missing.
        yes: Send without asking first.
    """
    from lookforward.benchmark.judge.answers import ANSWERS, Answers
    from lookforward.benchmark.judge.endpoint import Client, Endpoint
    from lookforward.benchmark.judge.recorded import RATINGS
    from lookforward.benchmark.judge.survey import Images
    from lookforward.runs.lock import locked

    counts = {"images": images, "size": size, "workers": workers, "attempts": attempts, "image-tokens": image_tokens}
    _check({**counts, "timeout": timeout}, 1)
    _check({"prompt-price": prompt_price, "answer-price": answer_price}, 0)
    where = Endpoint(endpoint, judge_model, _key(key_variable), timeout, attempts, parameters=_parameters(parameters))
    rated = Images(folder, where, split_words(methods), images, size)
    with (
        locked(folder / "judge.lock"),
        closing(Answers(folder / ANSWERS)) as answers,
        closing(Client(where)) as client,
    ):
        found = rated.survey(answers, ask_again)
        print_notes(found.notes)
        _print_cost(found, where, image_tokens, prompt_price, answer_price)
        if found.open and not (yes or _agreed(where)):
            console.print("Nothing was sent.")
            return
        _ask(rated, found, client, answers, workers)
        file = rated.ratings(found, answers)
        write_json(folder / RATINGS, asdict(file))
    given = [r for cell in file.cells for r in (*cell.concept_preservation, *cell.prompt_following) if r is not None]
    missing = sum(isinstance(rating, str) for rating in given)
    spent = f"{file.prompt_tokens:,} and {file.answer_tokens:,} tokens by the endpoint's count"
    console.print(f"{len(given) - missing:,} ratings and {missing:,} missing ones, {spent}, are in {folder / RATINGS}.")
    console.print(f"`lookforward report {folder}` shows them.")


def _check(numbers: "dict[str, float | None]", least: int) -> None:
    for name, number in numbers.items():
        if number is not None and not least <= number < float("inf"):
            text = f"--{name} {number}: give a number of at least {least}."
            raise LookforwardError(text, code="option-range")


def _key(variable: str) -> str:
    if not variable:
        return ""
    if not variable.isidentifier():  # perhaps the key itself, which no message may show
        text = "--key-variable takes the name of an environment variable, such as EYE_KEY."
        raise LookforwardError(text, code="judge-key")
    key = os.environ.get(variable, "").strip()
    if not key:
        text = f"The environment variable {variable!r} is empty: put the key of the endpoint into it."
        raise LookforwardError(text, code="judge-key")
    return key


def _parameters(given: str) -> dict[str, Any]:
    try:
        values = parse_json(given)
    except (LookforwardError, ValueError):
        values = None
    if not isinstance(values, dict) or RESERVED & values.keys():
        text = f'--parameters {given!r}: give a JSON object such as {{"temperature": 0}}'
        text += f", without {', '.join(sorted(RESERVED))}."
        raise LookforwardError(text, code="judge-parameters")
    return values


def _print_cost(
    found: "Survey", where: "Endpoint", image_tokens: int, prompt_price: float | None, answer_price: float | None
) -> None:
    """What there is to ask, and what it costs."""
    console.print(f"{found.wanted:,} ratings by {where.model} at {where.url}; {found.answered:,} of them are answered.")
    if not (count := len(found.open)):
        return
    tokens, answer_tokens = found.letters // LETTERS + image_tokens * found.pictures, ANSWER_TOKENS * count
    console.print(f"{count:,} requests with {found.pictures:,} images, photos of subjects among them: to {where.host}.")
    console.print(
        f"They take about {tokens:,} tokens, if an image takes {image_tokens:,} (--image-tokens), and their answers"
        f" {answer_tokens:,}. An answer without a rating is asked for again, at most twice; that comes on top."
    )
    if prompt_price is None or answer_price is None:
        console.print("To see what that costs, give --prompt-price and --answer-price, of a million tokens each.")
        return
    price = (tokens * prompt_price + answer_tokens * answer_price) / 1e6
    console.print(f"Cost: about {price:,.2f}, at {prompt_price:g} and {answer_price:g} for a million tokens.")


def _ask(rated: "Images", found: "Survey", client: "Client", answers: "Answers", workers: int) -> None:
    """Ask for what is open, and print a line now and then."""
    from lookforward.benchmark.judge.rating import ask_all

    total, lost = len(found.open), 0
    replies = ask_all(rated.open_items(found), client, answers, rated.size, workers, found.rated)
    for done, answer in enumerate(replies, start=1):
        lost += answer.rating is None
        if done == total or done % max(1, total // 20) == 0:
            console.print(f"[{done:,}/{total:,}] {lost:,} missing")


def _agreed(where: "Endpoint") -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        text = f"Nothing was sent: there is no terminal to ask whether it may go to {where.host}. Add --yes to send it."
        raise LookforwardError(text, code="judge-consent")
    console.print("Send them? Type yes:")
    try:
        return input("> ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
