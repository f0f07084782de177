"""What the tabs share: messages in place of errors, and events that only the page itself can call."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from lookforward.errors import LookforwardError
from lookforward.studio.state import Studio
from lookforward.studio.text import message

ANY = {"queue": True, "api_visibility": "private", "show_progress": "hidden"}
"""Options of every event."""


def answered(gr: Any, studio: Studio, others: int) -> Callable[..., Any]:
    """A handler whose first output is a message: what is wrong becomes one, and the `others` outputs stay."""

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def answer(*values: Any) -> Any:
            try:
                return handler(*values)
            except LookforwardError as error:
                said = message(studio.workspace.relative(str(error)), "error")
                return (said, *[gr.skip()] * others) if others else said

        return answer

    return decorate


def choose(gr: Any, names: Sequence[str | tuple[str, str]], now: Any) -> Any:
    """An update of a dropdown: its choices, and the value it has if that is still among them, or else the first."""
    values = [name[1] if isinstance(name, tuple) else name for name in names]
    return gr.update(choices=list(names), value=now if now in values else (values[0] if values else None))
