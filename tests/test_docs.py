"""The documentation says what is so: commands parse, settings and Python names exist, links lead somewhere."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import shlex
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lookforward
from lookforward.api import Personalized, personalize
from lookforward.bundle import require_bundle
from lookforward.cli.reference import cli_page, settings_page
from lookforward.config.reading import structure
from lookforward.config.settings import FIELDS, GROUPS, SHORT

main = importlib.import_module("lookforward.cli.main")  # the package's own name `main` is the function

TOYBOX_COMMANDS = require_bundle().commands()
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
DOTTED = re.compile(rf"(?<![\w./-])(?:{'|'.join(GROUPS)})\.(?:no-)?[a-z][a-z0-9_-]*")
FILES = (".safetensors", ".toml", ".json", ".py", ".md", ".txt", ".png", ".csv")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def spans(page: Path) -> list[str]:
    """What stands between backquotes outside of blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every `lookforward …` in a block or between backquotes."""
    found = []
    for page in PAGES:
        lines = [line for text in blocks(page, "", "sh", "bash", "console") for line in text.splitlines()]
        found += [(name(page), line.strip()) for line in [*lines, *spans(page)] if line.startswith("lookforward ")]
    return sorted(set(found))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every command notes its name and does nothing."""
    called: list[str] = []

    def noting(command_name: str, command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def note(*_: Any, **__: Any) -> None:
            called.append(command_name)

        return note

    for command_name in main.COMMANDS:
        monkeypatch.setitem(main.COMMANDS, command_name, noting(command_name, main.find_command(command_name)))
    for group, (_, modules) in main.COMMAND_GROUPS.items():
        for command_name, module in modules.items():
            called_as = f"{group} {command_name}"
            monkeypatch.setitem(modules, command_name, noting(called_as, main.find_command(command_name, module)))
    noted = {command_name: noting(command_name, command) for command_name, command in TOYBOX_COMMANDS.items()}
    monkeypatch.setattr("lookforward_toybox.bundle.commands", lambda: noted)
    return called


def test_commands_are_found() -> None:
    assert {page for page, _ in commands()} >= {"README.md", "docs/cli.md", "docs/toybox.md"}


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_parses(page: str, line: str, parsed: list[str]) -> None:
    words = shlex.split(line, comments=True)[1:]
    named = words[1] if words[0] == "toybox" and len(words) > 1 else words[0].rstrip(",")
    named = " ".join(words[:2]) if words[0] in main.COMMAND_GROUPS else named
    grouped = {f"{group} {one}" for group, (_, modules) in main.COMMAND_GROUPS.items() for one in modules}
    known = {"COMMAND", "toybox"} | set(main.COMMANDS) | set(TOYBOX_COMMANDS) | grouped
    assert named in known or named == "--help", page
    complete = len(words) > 1 and not {"…", "COMMAND"} & set(words)
    if complete and any(word.startswith("-") for word in words):  # else a bare mention
        main.main(words)
        assert parsed == [named], page


@pytest.mark.parametrize(("file", "page"), [("cli.md", cli_page), ("settings.md", settings_page)])
def test_generated_pages_are_fresh(file: str, page: Callable[[], str]) -> None:
    assert (ROOT / "docs" / file).read_text(encoding="utf-8") == page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_exist(page: Path) -> None:
    """Each `critic.weight`, and each `--critic.weight`, is a setting's name."""
    for dotted in DOTTED.findall(" ".join(spans(page))):
        if not dotted.endswith(FILES):
            group, _, key = dotted.partition(".")
            assert f"{group}.{key.removeprefix('no-').replace('-', '_')}" in FIELDS, dotted


@pytest.mark.parametrize(
    ("page", "text"), [(name(page), text) for page in PAGES for text in blocks(page, "toml") if "project" not in text]
)
def test_toml_is_a_recipe_or_a_list_of_subjects(page: str, text: str) -> None:
    tables = tomllib.loads(text)
    if subjects := tables.pop("subject", None):
        assert not tables, page
        assert all(subject.keys() == {"photos", "class_noun", "identifier"} for subject in subjects), page
    else:
        by_family = tables.pop("family", {})
        settings = {group: table for group, table in tables.items() if group not in ("about", "base")}
        for layer in (settings, *by_family.values()):
            structure(layer, page)


@pytest.mark.parametrize(("page", "code"), [(name(page), text) for page in PAGES for text in blocks(page, "python")])
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
                    assert keywords <= set(inspect.signature(personalize).parameters) | set(SHORT), page
                case ast.Attribute(attr="generate"):
                    assert keywords <= set(inspect.signature(Personalized.generate).parameters), page
                case _:
                    pass


def test_functions_exist() -> None:
    """Each `algorithm.step.train_step` of docs/algorithm.md."""
    page = ROOT / "docs" / "algorithm.md"
    packages = "algorithm|assembly|baselines|core|critics|models|rewards"
    named = sorted({span for span in spans(page) if re.fullmatch(rf"(?:{packages})(?:\.\w+)+", span)})
    assert len(named) > 10
    for dotted in named:
        pkgutil.resolve_name(f"lookforward.{dotted}")


def test_the_public_names_are_documented() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert all(f"`{public}" in text for public in lookforward.__all__)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert listed == {page for page in there if not page.startswith("results/")}


def anchors(page: Path) -> set[str]:
    """Headings as mkdocs and GitHub name them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", h.replace("`", "")).strip().lower()) for h in headings}
