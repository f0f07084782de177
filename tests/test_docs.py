"""The documentation says what is so: commands parse, Python names exist, links lead somewhere."""

import ast
import functools
import importlib
import inspect
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lookforward
from lookforward.api import Personalized, personalize
from lookforward.bundle import require_bundle
from lookforward.cli.reference import cli_page, settings_page
from lookforward.config.settings import SHORT

main = importlib.import_module("lookforward.cli.main")  # the package's own name `main` is the function

TOYBOX_COMMANDS = require_bundle().commands()
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACED_LATER = {"docs/images/demo.png"}


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every `lookforward …` in a block or between backquotes."""
    found = []
    for page in PAGES:
        lines = [line for text in blocks(page, "", "sh", "bash") for line in text.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
        name = str(page.relative_to(ROOT))
        found += [(name, line.strip()) for line in lines if line.strip().startswith("lookforward ")]
    return sorted(set(found))


def python_blocks() -> list[tuple[str, str]]:
    return [(str(page.relative_to(ROOT)), text) for page in PAGES for text in blocks(page, "python")]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every command notes its name and does nothing."""
    called: list[str] = []

    def noting(name: str, command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def note(*_: Any, **__: Any) -> None:
            called.append(name)

        return note

    for name in main.COMMANDS:
        monkeypatch.setitem(main.COMMANDS, name, noting(name, main.find_command(name)))
    bundled = {name: noting(name, command) for name, command in TOYBOX_COMMANDS.items()}
    monkeypatch.setattr(main, "require_bundle", lambda: SimpleNamespace(commands=lambda: bundled))
    return called


def test_commands_are_found() -> None:
    assert {page for page, _ in commands()} >= {"README.md", "docs/cli.md", "docs/toybox.md"}


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_parses(page: str, line: str, parsed: list[str]) -> None:
    words = shlex.split(line, comments=True)[1:]
    named = words[1] if words[0] == "toybox" and len(words) > 1 else words[0]
    known = {"COMMAND", "toybox"} | set(main.COMMANDS) | set(TOYBOX_COMMANDS)
    assert named in known, page
    complete = len(words) > 1 and not {"…", "COMMAND"} & set(words)
    if complete and any(word.startswith("-") for word in words):  # else a bare mention
        main.main(words)
        assert parsed == [named], page


@pytest.mark.parametrize(("name", "page"), [("cli.md", cli_page), ("settings.md", settings_page)])
def test_generated_pages_are_fresh(name: str, page: Callable[[], str]) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page(), "run `make docs`"


@pytest.mark.parametrize(("page", "code"), python_blocks())
def test_python_is_right(page: str, code: str) -> None:
    tree = ast.parse(textwrap.dedent(code))
    compile(tree, page, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lookforward"):
            module = importlib.import_module(node.module or "")
            public = lookforward.__all__ if module is lookforward else vars(module)
            assert {alias.name for alias in node.names} <= set(public), page
        if isinstance(node, ast.Call):
            keywords = {word.arg for word in node.keywords}
            match node.func:
                case ast.Name("personalize"):
                    named = set(inspect.signature(personalize).parameters)
                    assert keywords <= named | set(SHORT), page
                case ast.Attribute(attr="generate"):
                    assert keywords <= set(inspect.signature(Personalized.generate).parameters), page
                case _:
                    pass


def test_the_public_names_are_documented() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in text for name in lookforward.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file():
            assert str(target.relative_to(ROOT)) in PLACED_LATER, f"{page.name}: {link}"
        elif anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    """Headings as mkdocs and GitHub name them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", h.replace("`", "")).strip().lower()) for h in headings}
