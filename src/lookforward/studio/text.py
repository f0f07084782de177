"""HTML of the studio. Templates escape every value; nothing from users is put into HTML otherwise."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("lookforward.studio"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def render(template: str, **values: Any) -> str:
    """A template of studio/templates, by its name without the ending."""
    return _environment().get_template(f"{template}.html.jinja").render(**values)


def message(text: str, kind: str = "note") -> str:
    """A line that screen readers read out. kind: "note", "good" or "error"."""
    return render("message", text=text, kind=kind) if text else ""


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
