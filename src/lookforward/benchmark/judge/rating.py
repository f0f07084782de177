"""Ask a judge for ratings, several at a time."""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
from PIL import Image

from lookforward import stopping
from lookforward.benchmark.judge.answers import REFUSED, Answer, Answers
from lookforward.benchmark.judge.endpoint import Client, RequestRefused, user_message
from lookforward.benchmark.judge.questions import REMINDER, read_rating
from lookforward.benchmark.judge.survey import Item
from lookforward.errors import LookforwardError
from lookforward.provenance.save import save_image

TRIES = 3  # at an answer that can be read
MOST_LOST = 5  # answers without a rating while there is none with one: this judge gives none


def ask_all(
    items: Iterable[Item], client: Client, answers: Answers, size: int, workers: int, rated: int
) -> Iterator[Answer]:
    """Ask for ratings, several at a time; each answer is kept as it comes. A stop waits for what is under way.

    rated: how many ratings are known already, so that the judge is known to give some.

    Raises:
        LookforwardError: the endpoint fails, or gives no rating whatever it is asked.
    """
    waiting, running, failure, lost = iter(items), dict[Future[Answer], Item](), None, 0
    with ThreadPoolExecutor(workers) as pool, stopping.finishing():
        while True:
            over = failure is not None or stopping.requested()
            if over:
                client.stop.set()
            while not over and len(running) < workers and (item := next(waiting, None)) is not None:
                running[pool.submit(rate, client, item, size)] = item
            if not running:
                break
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    answer = replace(future.result(), endpoint=client.endpoint.url)
                    answers.put(item.digest, answer)
                except LookforwardError as error:
                    failure = failure or error
                    continue
                rated, lost = rated + (answer.rating is not None), lost + (answer.rating is None)
                yield answer
                if lost >= MOST_LOST and not rated:
                    text = f"The judge gives no ratings ({answer.why}). Check the model, which must see images, and"
                    failure = failure or LookforwardError(f"{text} --parameters.", code="judge-rates-nothing")
        stopping.check()
    if failure is not None:
        raise failure


def rate(client: Client, item: Item, size: int) -> Answer:
    """Ask for one rating, again where the answer has none. Raises LookforwardError where the endpoint fails."""
    photo = len(item.pictures) > 1  # the reference
    images = [_jpeg(picture, size, photo and i == 0) for i, picture in enumerate(item.pictures)]
    messages, spent, text = [user_message(item.text, images)], [0, 0], ""
    for _ in range(TRIES):
        try:
            reply = client.ask(messages)
        except RequestRefused as error:
            return Answer(None, f"{REFUSED}{error}", text, spent[0], spent[1])
        text, spent = reply.text, [spent[0] + reply.prompt_tokens, spent[1] + reply.answer_tokens]
        if (rating := read_rating(text)) is not None:
            return Answer(rating, "", text, spent[0], spent[1])
        messages = [messages[0], {"role": "assistant", "content": text or "–"}, user_message(REMINDER)]
    return Answer(
        None, f"no rating in {TRIES} answers, the last: {' '.join(text.split())[:80]!r}", text, spent[0], spent[1]
    )


def _jpeg(pixels: np.ndarray, size: int, photo: bool) -> bytes:
    image, buffer = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    save_image(image, buffer, None if photo else "generated", format="JPEG", quality=92, subsampling=0)
    return buffer.getvalue()
