"""What made the cells: versions, dates, and where they do not agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

_TOLD_APART = ("lookforward", "torch")  # packages of which two versions in one report are a warning


@dataclass(frozen=True)
class Origin:
    """What a cell says of its making; empty in cells of before they said. date: ISO 8601, UTC."""

    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    model_hash: str = ""
    config_hash: str = ""


def measured_with(origins: Sequence[Origin], last_call: Mapping[str, str]) -> str:
    """The versions that made the cells; those of the last call where no cell says."""
    found: dict[str, set[str]] = {}
    for origin in origins:
        for name, version in origin.versions.items():
            found.setdefault(name, set()).update([version] if version else [])
    if not any(found.values()):
        told = ", ".join(f"{name} {version}" for name, version in last_call.items())
        return f"{told} (the last call; the cells do not say)" if told else "not recorded"
    told = ", ".join(f"{name} {' or '.join(sorted(versions))}" for name, versions in found.items() if versions)
    silent = sum(not origin.versions for origin in origins)
    return told + (f"; {silent:,} of {len(origins):,} cells do not say" if silent else "")


def made_when(origins: Sequence[Origin], file_times: Sequence[float], planned: str) -> str:
    """From the first to the last cell, as they say; by their files where none says. planned: date of the first call."""
    dates = sorted(_minute(origin.date) for origin in origins if origin.date)
    whence = ""
    if not dates and file_times:
        dates = [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in sorted(file_times)]
        whence = ", by the dates of their files"
    elif silent := sum(not origin.date for origin in origins):
        whence = f"; {silent:,} of {len(origins):,} cells do not say"
    begun = f"planned {_minute(planned)}; " if planned else ""
    return f"{begun}cells of {dates[0]} to {dates[-1]} UTC{whence}" if dates else begun.removesuffix("; ")


def disagreements(origins: Sequence[Origin], model: str) -> list[str]:
    """Warnings: cells of one page that were made by different packages, or on different weights."""
    told = []
    for package in _TOLD_APART:
        versions = [o.versions[package] for o in origins if o.versions.get(package)]
        if len(set(versions)) > 1:
            told.append(
                f"The cells were made by different versions of {package}: {_counted(versions)}. What differs between"
                " methods or subjects may be of the versions."
            )
    hashes = [o.model_hash for o in origins if o.model_hash]
    if len(set(hashes)) > 1:
        told.append(
            f"The cells were made on different weights of the base model {model}: {_counted(hashes)}, by their hash."
            " They should not stand in one table."
        )
    return told


def _counted(words: Sequence[str]) -> str:
    return ", ".join(f"{word} ({n:,} cell{'' if n == 1 else 's'})" for word, n in sorted(Counter(words).items()))


def _minute(date: str) -> str:
    """2026-11-21 13:00."""
    return date[:16].replace("T", " ")
