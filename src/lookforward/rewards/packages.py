"""Packages that a reward needs and that are not installed with lookforward."""

import importlib
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from types import ModuleType
from typing import TypeVar

from lookforward.errors import LookforwardError

T = TypeVar("T")


def import_package(name: str) -> ModuleType:
    """The module of the package `name`. Raises LookforwardError, with the pip command, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        reason = "is not installed" if absent else f"cannot be imported ({error})"
        raise LookforwardError(
            f"Reward {name!r} needs the package {name}, which {reason}. Run `pip install {name}`."
        ) from error


def load_weights_of(name: str, load: Callable[[], T]) -> T:
    """`load()`, whose chatter is dropped, and whose failure to fetch or read the weights is explained."""
    try:
        with redirect_stdout(StringIO()):
            return load()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise LookforwardError(
            f"The weights of {name} cannot be loaded: {reason}. The package downloads them once, on its first use: "
            "connect to a network, or choose another reward."
        ) from error
