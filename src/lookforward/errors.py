"""The one exception that users see: a sentence that says what is wrong and what to do about it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LookforwardError(Exception):
    """A problem with what the user asked for, in one message that names the remedy.

    The command line prints the message alone, without a traceback, and exits with status 2.

    code: a short name of the problem for programs and tests, such as "photos-missing"; it outlives the wording.
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code


def write_error(where: Path, error: Exception, remedy: str) -> LookforwardError:
    """What to say when `where` cannot be written."""
    number = error.errno if isinstance(error, OSError) else None
    full = number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return LookforwardError(f"{where} cannot be written: {'the disk is full' if full else reason}. {remedy}")


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Tell of a full disk, or of a place that cannot be written, in one message. Nothing is read inside.

    Raises:
        LookforwardError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise write_error(where, error, "What is there is intact: make room, or give another --output.") from error
