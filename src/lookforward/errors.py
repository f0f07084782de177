"""The one exception that users see: a sentence that says what is wrong and what to do about it."""


class LookforwardError(Exception):
    """A problem with what the user asked for. The message names the remedy.

    The command line prints the message alone, without a traceback, and exits with status 2.

    code: a short name of the problem for programs and tests, such as "photos-missing"; it outlives the wording.
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code
