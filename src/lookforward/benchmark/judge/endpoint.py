"""An OpenAI-compatible chat endpoint that sees images: requests, retries, and what is reported of failures."""

import base64
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2

from lookforward.errors import LookforwardError
from lookforward.records import parse_json

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses that may pass
_OF_REQUEST = frozenset({400, 413, 422})  # that say that this request is refused, as a filter of content does
LONGEST_PAUSE = 60.0  # seconds
MOST_BYTES = 4 * 2**20  # of an answer
MOST_LETTERS = 20_000  # kept of an answer: the last ones, where the rating is
MOST_TOKENS = 10**9  # counts above are none


class RequestRefused(LookforwardError):
    """The endpoint refuses one request, whatever becomes of others."""


class Reply(NamedTuple):
    """tokens: of the request, and of the answer, as the endpoint counts them; 0 where it does not say."""

    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Endpoint:
    """Where a judge is and how it is asked.

    url: up to /v1. key: sent as a bearer token, unless it is empty. timeout: seconds of one request. attempts: at a
    request that fails. pause: seconds before the second attempt; each further pause is twice as long. parameters: of
    the request, such as {"temperature": 0}.

    Raises:
        LookforwardError: the URL is none of http or https, or holds a user, a query or a fragment; or no header can
            hold the key.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    attempts: int = 5
    pause: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            parts = httpx2.URL(self.url)
            plain = parts.scheme in ("http", "https") and parts.host and (parts.port or 0) < 2**16
        except httpx2.InvalidURL:
            plain = False
        if not plain or re.search(r"[@?#\s]", self.url):
            shown = re.split(r"[?#]", self.url.rpartition("@")[2])[0]
            text = f"{shown!r} is no address of an endpoint: give one such as http://127.0.0.1:8000/v1"
            raise LookforwardError(f"{text}, without a user or a key in it.", code="judge-url")
        if not re.fullmatch(r"[!-~]*", self.key):  # an error of the request would show it
            text = "The key of the endpoint has a space or another character that no key has: check the variable."
            raise LookforwardError(text, code="judge-key")

    @property
    def host(self) -> str:
        return httpx2.URL(self.url).netloc.decode("ascii")

    @property
    def encrypted(self) -> bool:
        return httpx2.URL(self.url).scheme == "https"


class Client:
    """Asks an endpoint, from several threads. Close it after use. stop: set it, and nobody waits to try again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.stop = threading.Event()
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        # Nothing goes to an address that the user did not name: redirects are not followed, and proxies of the
        # environment get encrypted requests only, of which they see the host
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(endpoint.timeout, pool=None),
            follow_redirects=False,
            trust_env=endpoint.encrypted,
        )

    def close(self) -> None:
        self._http.close()

    def ask(self, messages: Sequence[Mapping[str, Any]]) -> Reply:
        """The answer to a conversation.

        Raises:
            RequestRefused: the endpoint refuses this conversation.
            LookforwardError: it cannot be reached, refuses everybody, or still fails at the last attempt.
        """
        one, pause, asked, why = self.endpoint, self.endpoint.pause, 0.0, ""
        body = {"model": one.model, "messages": list(messages), **one.parameters}
        for attempt in range(one.attempts):
            if attempt:
                if self.stop.wait(min(max(pause, asked), LONGEST_PAUSE)):
                    break
                pause, asked = pause * 2, 0.0
            try:
                response, text = self._post(body)
            except httpx2.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
                continue
            shown = repr(" ".join(text[:2_000].split())[:300])
            if response.status_code == 200:
                reply = _read_reply(text)
                if reply is not None:
                    return reply
                why = f"no chat completion in {shown}"
                continue
            why = f"status {response.status_code}, {shown}"
            if response.status_code in _OF_REQUEST:
                raise RequestRefused(why, code="judge-refused")
            if response.status_code not in _AGAIN:
                break
            asked = _retry_after(response)
        text = f"The judge at {one.url} does not answer ({why}). What it answered is kept: check the address, the model"
        raise LookforwardError(f"{text} {one.model!r} and the key, then run the same command again.", "judge-endpoint")

    def _post(self, body: Mapping[str, Any]) -> tuple[httpx2.Response, str]:
        """The response and its text, without the key. Raises httpx2.HTTPError, also where it is too long or slow."""
        end, content = time.monotonic() + self.endpoint.timeout, bytearray()
        with self._http.stream("POST", f"{self.endpoint.url.rstrip('/')}/chat/completions", json=body) as response:
            for part in response.iter_bytes():  # decompressed piece by piece
                content += part
                if len(content) > MOST_BYTES:
                    raise httpx2.ReadError(f"an answer of more than {MOST_BYTES:,} bytes")
                if time.monotonic() > end:
                    raise httpx2.ReadTimeout(f"an answer that takes more than {self.endpoint.timeout:g} s")
        text = content.decode("utf-8", "replace")
        return response, text.replace(self.endpoint.key, "…") if self.endpoint.key else text


def user_message(text: str, images: Sequence[bytes] = ()) -> dict[str, Any]:
    """A message with JPEG images after its text."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for image in images:
        url = "data:image/jpeg;base64," + base64.b64encode(image).decode("ascii")
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": parts}


def _read_reply(content: str) -> Reply | None:
    """None if it is no chat completion. An answer without text, as of a model that declines, is empty."""
    try:
        whole = parse_json(content)
        text, usage = whole["choices"][0]["message"].get("content"), whole.get("usage") or {}
        counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
        # Halves of surrogate pairs, which JSON can hold, cannot be stored or sent
        text = text[-MOST_LETTERS:].encode("utf-8", "replace").decode() if isinstance(text, str) else ""
        return Reply(text, *(n if isinstance(n, int) and 0 <= n <= MOST_TOKENS else 0 for n in counts))
    except (LookforwardError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the endpoint asks to wait for; 0 if it does not say, or says a date."""
    try:
        return max(0.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
