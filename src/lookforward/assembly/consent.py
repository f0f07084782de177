"""Whether a run may begin without a statement of consent, and what it records of one."""

from dataclasses import dataclass
from pathlib import Path

from lookforward.data.people import signs_of_people
from lookforward.data.subject import Subject
from lookforward.errors import LookforwardError
from lookforward.runs.consent import Consent, consent_now, read_consent
from lookforward.runs.folder import SETTINGS

_HOW = (
    'give --consent "…", in Python consent="…", and say who took the photos, and that they and whoever is shown agree'
)


@dataclass(frozen=True)
class Agreement:
    """What is known before a run begins. consent: what run and cards record. open: whether a statement can still be
    given. signs: of people in the photos, for which one is demanded. kept: whether another one was given too late."""

    consent: Consent | None
    open: bool = False
    signs: tuple[str, ...] = ()
    kept: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for the user, if there is no statement, or not the one that was given."""
        if self.kept and self.consent is not None:
            return (f"The run keeps its statement of consent of {self.consent.date}.",)
        if self.consent is not None:
            return ()
        if self.signs:
            return (f"The photos may show a person ({'; '.join(self.signs)}): to train on them, {_HOW}.",)
        return (f"No statement of consent is recorded. If the photos show what others care about, {_HOW}.",)

    def require(self) -> None:
        """Raise LookforwardError if a statement is demanded and missing (code "consent-missing")."""
        if self.consent is None and self.signs:
            raise LookforwardError(self.notes[0], "consent-missing")


def agreement(folder: Path, subject: Subject, statement: str = "") -> Agreement:
    """What holds for a run in `folder`. One that has begun is not asked again. statement: what the user gives, if any.

    Raises:
        LookforwardError: the statement, or the one that was recorded, cannot be read.
    """
    before = read_consent(folder)
    given = consent_now(statement, subject.digests) if statement else None
    if before is not None:
        return Agreement(before, kept=given is not None and given.statement != before.statement)
    begun = (folder / SETTINGS).is_file()
    return Agreement(given, open=given is None and not begun, signs=() if begun else signs_of_people(subject))
