"""Where commands print."""

from collections.abc import Iterable

from rich.console import Console

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)  # paths as they are, to be copied


def print_notes(notes: Iterable[str]) -> None:
    """A line for each note."""
    for note in notes:
        console.print(f"Note: {note}")


def split_words(given: Iterable[str]) -> tuple[str, ...]:
    """Words that may come with spaces or commas between."""
    return tuple(word.strip() for words in given for word in words.split(",") if word.strip())
