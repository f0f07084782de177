"""Packages that save memory, which are not installed with lookforward."""

import importlib
from importlib.util import find_spec
from typing import Any

from lookforward.errors import LookforwardError, first_line

EXTRA = "memory"  # of pyproject.toml


def require_extra(package: str, setting: str) -> Any:
    """The imported package. setting: what needs it, for the message.

    Raises:
        LookforwardError: it is not installed, or does not work here.
    """
    if find_spec(package) is None:
        raise LookforwardError(
            f"{setting} needs the package {package}, which is not installed: pip install 'lookforward[{EXTRA}]'.",
            code="package-missing",
        )
    try:
        return importlib.import_module(package)
    except (ImportError, OSError, RuntimeError) as error:
        reason = first_line(error)
        raise LookforwardError(
            f"{setting} needs the package {package}, which cannot be loaded here: {reason}. Install another version of "
            f"it, or leave {setting} out.",
            code="package-unusable",
        ) from error
