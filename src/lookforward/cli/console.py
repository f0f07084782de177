"""Where commands print."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lookforward.texts import MOST_OF_NOTE, visible

if TYPE_CHECKING:
    from lookforward.models.memory import Table


class _VisibleConsole(Console):
    """A console that obeys no control character of the strings it prints: it writes them with a backslash."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(one, lines=True) if isinstance(one, str) else one for one in objects), **options)


# Paths as they are, to be copied
console = _VisibleConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_notes(notes: Iterable[str]) -> None:
    """A line for each note, cut where it is too long."""
    for note in notes:
        console.print(f"Note: {visible(note, MOST_OF_NOTE)}")


def print_memory(table: "Table", say: Callable[[str], None] = console.print) -> None:
    """What a run needs of memory, part by part. GiB, as the sizes of GPUs are given. say: prints a line."""
    say(f"{'memory':26} {'parameters':>14} {'GiB':>8}  on the device while")
    for row in table.rows:
        count = f"{row.parameters:,}" if row.parameters else ""
        when = " and ".join(["training"] * row.training + ["drawing"] * row.drawing) or "neither"
        say(f"{row.part:26} {count:>14} {row.bytes / 2**30:8.3f}  {when}")
    say(f"{'in training':26} {'':14} {table.training / 2**30:8.3f}")
    say(f"{'encoding and drawing':26} {'':14} {table.drawing / 2**30:8.3f}  without activations")
    for what in table.unknown:
        say(f"Not counted: {what}.")


def split_words(given: Iterable[str]) -> tuple[str, ...]:
    """Words that may come with spaces or commas between."""
    return tuple(word.strip() for words in given for word in words.split(",") if word.strip())
