"""The one exception that users see: a sentence that says what is wrong and what to do about it. And warnings."""

import warnings


class LookforwardError(Exception):
    """A problem with what the user asked for. The message names the remedy.

    The command line prints the message alone, without a traceback, and exits with status 2.

    code: a short name of the problem for programs and tests, such as "photos-missing"; it outlives the wording.
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code


class LookforwardWarning(UserWarning):
    """Something that the user should know, and that stops nothing. The command line prints it as a note."""


def warn(message: str) -> None:
    """Warn the user: `LookforwardWarning`."""
    warnings.warn(message, LookforwardWarning, stacklevel=3)
