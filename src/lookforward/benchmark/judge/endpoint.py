"""An OpenAI-compatible chat endpoint that sees images: requests, retries, and what is reported of failures."""

import base64
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2

from lookforward.errors import LookforwardError
from lookforward.records import parse_json

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses that may pass
_OF_REQUEST = frozenset({400, 413, 422})  # that say that this request is refused, as a filter of content does
LONGEST_PAUSE = 60.0  # seconds


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
        LookforwardError: the URL is none of http or https, or holds a user, a query or a fragment.
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
            parts = urlsplit(self.url)
            plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        except ValueError:
            plain = False
        if not plain or "@" in self.url:
            shown = self.url.rpartition("@")[2]
            text = f"{shown!r} is no address of an endpoint: give one such as http://127.0.0.1:8000/v1"
            raise LookforwardError(f"{text}, without a user or a key in it.", code="judge-url")

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


class Client:
    """Asks an endpoint, from several threads. Close it after use. stop: set it, and nobody waits to try again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.stop = threading.Event()
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        # Redirects are not followed: nothing goes to an address that the user did not name
        self._http = httpx2.Client(headers=headers, timeout=endpoint.timeout, follow_redirects=False)

    def close(self) -> None:
        self._http.close()

    def ask(self, messages: Sequence[Mapping[str, Any]]) -> Reply:
        """The answer to a conversation.

        Raises:
            RequestRefused: the endpoint refuses this conversation.
            LookforwardError: it cannot be reached, refuses everybody, or still fails at the last attempt.
        """
        one, pause, why = self.endpoint, self.endpoint.pause, ""
        body = {"model": one.model, "messages": list(messages), **one.parameters}
        for attempt in range(one.attempts):
            if attempt and self.stop.wait(min(pause, LONGEST_PAUSE)):
                break
            pause = one.pause * 2 ** (attempt + 1)
            try:
                response = self._http.post(f"{one.url.rstrip('/')}/chat/completions", json=body)
            except httpx2.TransportError as error:
                why = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                reply = _read_reply(response.content)
                if reply is not None:
                    return reply
                why = f"no chat completion in {self._shown(response)}"
                continue
            why = f"status {response.status_code}, {self._shown(response)}"
            if response.status_code in _OF_REQUEST:
                raise RequestRefused(why, code="judge-refused")
            if response.status_code not in _AGAIN:
                break
            pause = max(pause, _retry_after(response))
        text = f"The judge at {one.url} does not answer ({why}). What it answered is kept: check the address, the model"
        raise LookforwardError(f"{text} {one.model!r} and the key, then run the same command again.", "judge-endpoint")

    def _shown(self, response: httpx2.Response) -> str:
        text = " ".join(response.text[:2_000].split())[:300]
        return repr(text.replace(self.endpoint.key, "…") if self.endpoint.key else text)


def user_message(text: str, images: Sequence[bytes] = ()) -> dict[str, Any]:
    """A message with JPEG images after its text."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for image in images:
        url = "data:image/jpeg;base64," + base64.b64encode(image).decode("ascii")
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": parts}


def _read_reply(content: bytes) -> Reply | None:
    """None if it is no chat completion. An answer without text, as of a model that declines, is empty."""
    try:
        whole = parse_json(content)
        text, usage = whole["choices"][0]["message"].get("content"), whole.get("usage") or {}
        counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(text if isinstance(text, str) else "", *(n if isinstance(n, int) else 0 for n in counts))
    except (LookforwardError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the endpoint asks to wait for; 0 if it does not say, or says a date."""
    try:
        return max(0.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
