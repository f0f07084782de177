"""Help is quick: nothing heavy is imported before it is needed."""

import subprocess
import sys

import pytest

from lookforward.cli.main import COMMAND_GROUPS, COMMANDS

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "peft", "ray", "matplotlib", "pandas", "scipy", "jinja2")


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from lookforward.cli import main
try:
    main({words!r})
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: lookforward" in done.stdout
    assert not set(HEAVY) & set(done.stderr.split())


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, lookforward; lookforward.Settings(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


def test_a_sheet_of_images_needs_no_matplotlib() -> None:
    """Training and drawing write sheets; matplotlib takes a third of a second to import."""
    code = "import sys, lookforward.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "matplotlib" not in done.stdout.split()


def test_help_loads_neither_torch_nor_toybox_and_describes_every_command() -> None:
    code = "import sys; from lookforward.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, modules = done.stdout.splitlines()
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert not loaded & {"torch", "numpy", "tyro", "lookforward_toybox"}
    described = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    assert set(COMMANDS) | set(COMMAND_GROUPS) <= set(described)
