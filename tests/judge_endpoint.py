"""A stand-in for a judge's endpoint: a server of this machine that answers as a test tells it to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[int, dict[str, Any]], "str | Failure"]
"""From the number of the request, counted from 0, and its body, to the judge's words or a failure."""


@dataclass(frozen=True)
class Failure:
    """status: of HTTP; 0 cuts the connection. pause: seconds after each byte of the text."""

    status: int
    text: str | bytes = "no"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0


@dataclass
class Judge:
    """url: of the endpoint. bodies, keys: of the requests so far."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def judging(answer: Answer) -> Iterator[Judge]:
    """A judge, while the context lasts."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                number = len(judge.bodies)
                judge.bodies.append(body)
                judge.keys.append(self.headers.get("authorization"))
                judge.paths.append(self.path)
            said = answer(number, body)
            if isinstance(said, Failure) and not said.status:
                self.connection.close()
                return
            failure = said if isinstance(said, Failure) else None
            whole = {
                "choices": [{"message": {"role": "assistant", "content": said}}],
                "usage": {"prompt_tokens": 500, "completion_tokens": 20},
            }
            text = failure.text if failure else json.dumps(whole)
            data = text.encode() if isinstance(text, str) else text
            self.send_response(failure.status if failure else 200)
            for name, value in (failure.headers if failure else {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            with suppress(OSError):  # a client that has enough hangs up
                for part in (data[i : i + 1] for i in range(len(data))) if failure and failure.pause else (data,):
                    self.wfile.write(part)
                    time.sleep(failure.pause if failure else 0)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge = Judge(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()


def is_concept(body: dict[str, Any]) -> bool:
    """Whether a request shows a reference beside the image."""
    return sum(part["type"] == "image_url" for part in body["messages"][0]["content"]) == 2


def complete(content: str, **usage: int) -> str:
    """The body of an answer."""
    return json.dumps({"choices": [{"message": {"content": content}}], "usage": usage})
