"""Errors in tests are matched by their code and by the facts they name, never by their wording."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lookforward.errors import LookforwardError


@contextmanager
def raises(code: str, *facts: object) -> Iterator[pytest.ExceptionInfo[LookforwardError]]:
    """Expect a LookforwardError of this code whose message names every fact: a file, a setting, a number."""
    with pytest.raises(LookforwardError) as caught:
        yield caught
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    missing = [fact for fact in facts if str(fact) not in str(caught.value)]
    assert not missing, f"{missing} not named in: {caught.value}"
