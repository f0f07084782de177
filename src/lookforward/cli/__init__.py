"""The command line. Each command is a thin layer over the Python interface."""

from lookforward.cli.main import main

__all__ = ["main"]
