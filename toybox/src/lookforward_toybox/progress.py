"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def track(what: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Gives a function that shows how many of `total` are done: a bar on a terminal, else a line for each tenth."""
    live, shown = sys.stdout.isatty(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not live) as bar:
        task = bar.add_task(what, total=total)

        def show(done: int) -> None:
            nonlocal shown
            bar.update(task, completed=done)
            if not live and done * 10 // total > shown:
                shown = done * 10 // total
                console.print(f"{what}: {done} of {total}", highlight=False)

        yield show
