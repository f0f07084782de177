"""RUN/consent.json: who says, and when, that those whom the photos show agree to the training."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lookforward.errors import LookforwardError
from lookforward.files import read_json, write_json
from lookforward.runs.photo_lines import photo_files

CONSENT = "consent.json"
LONGEST = 500  # characters of a statement


@dataclass(frozen=True)
class Consent:
    """A statement of consent. photos: a digest of the photos that it is about. date: its day in UTC, 2026-01-31."""

    statement: str
    photos: str
    date: str

    def write(self, folder: Path) -> None:
        """Write consent.json into a run folder. Raises LookforwardError if it cannot be written."""
        write_json(folder / CONSENT, asdict(self))


def consent_now(statement: str, digests: Sequence[str]) -> Consent:
    """A statement of today about photos of these lines (`Subject.digests`).

    Raises:
        LookforwardError: it is empty, too long, or has control characters (code "consent-text").
    """
    text = " ".join(statement.split())
    if not text or len(text) > LONGEST or not text.isprintable():
        raise LookforwardError(
            f"A statement of consent has 1 to {LONGEST} printable characters: say who took the photos, and that they "
            "and whoever is shown agree.",
            "consent-text",
        )
    return Consent(text, photos_digest(digests), datetime.now(UTC).date().isoformat())


def read_consent(folder: Path) -> Consent | None:
    """The statement of a run; None if there is none.

    Raises:
        LookforwardError: the file is damaged.
    """
    return read_json(folder / CONSENT, Consent) if (folder / CONSENT).is_file() else None


def photos_digest(digests: Sequence[str]) -> str:
    """One SHA-256 of all photos, in whatever order: of the sorted SHA-256 of their files, a line each."""
    files = sorted(word for word in photo_files(digests) if len(word) == 64)  # not of the lines that name a subject
    return hashlib.sha256("".join(f"{one}\n" for one in files).encode()).hexdigest()
