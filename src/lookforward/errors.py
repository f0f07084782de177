"""The one exception that users see: a sentence that says what is wrong and what to do about it. And warnings."""

import warnings

from lookforward.texts import MOST_OF_MESSAGE, visible


class LookforwardError(Exception):
    """A problem with what the user asked for. The message names the remedy.

    The command line prints the message alone, without a traceback, and exits with status 2, or with 4 for the
    code "out-of-memory". Names and texts in it that come from files are harmless to a terminal: `texts.visible` has
    written them, and cut a message that is too long.

    code: a short name of the problem for programs and tests, such as "photos-missing"; it outlives the wording.
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(visible(message, MOST_OF_MESSAGE, lines=True))
        self.code = code


def first_line(error: BaseException) -> str:
    """What an error says, in one line without its full stop; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".: ")


_NO_MEMORY = (  # torch's own words, where it has no class for it
    "DefaultCPUAllocator: can't allocate",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up: Python's, or torch's of a CPU or an accelerator."""
    if isinstance(error, LookforwardError):
        return error.code == "out-of-memory"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # without importing torch for it
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def out_of_memory(what: str, error: BaseException) -> LookforwardError:
    """The error to raise where memory is used up. what: when, such as "in step 3"."""
    if isinstance(error, LookforwardError):
        return error
    return LookforwardError(f"Out of memory{f' {what}' if what else ''} ({first_line(error)}).", code="out-of-memory")


class LookforwardWarning(UserWarning):
    """Something that the user should know, and that stops nothing. The command line prints it as a note."""


def warn(message: str) -> None:
    """Warn the user: `LookforwardWarning`."""
    warnings.warn(message, LookforwardWarning, stacklevel=3)
