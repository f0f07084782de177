"""The one exception that users see: a sentence that says what is wrong and what to do about it."""


class LookforwardError(Exception):
    """A problem with what was asked for, told in one message that names the remedy.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """
