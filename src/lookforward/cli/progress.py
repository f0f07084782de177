"""What the user sees while a run trains: a bar on a terminal, a line now and then elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

if TYPE_CHECKING:
    from lookforward.core.types import StepResult

_SHOWN = {"loss": "loss", "noise_loss": "noise", "prior_loss": "prior", "q": "Q", "q_target": "return"}
_MEASURED = {"identity": "identity", "prompt": "prompt"}


class TrainingProgress:
    """Shows the steps of a training: the terms of the loss (smoothed), the time left and the memory."""

    def __init__(self, total: int, console: Console) -> None:
        self.total, self.console = total, console
        self._smooth: dict[str, float] = {}
        self._measured = ""
        self._live = sys.stdout.isatty()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[terms]}", table_column=Column()),  # on a narrow terminal only the terms break
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("training", total=total, terms="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, result: "StepResult") -> None:
        """One step more."""
        from lookforward.benchmark.peak_memory import peak_memory

        if not self._smooth:  # the first: steps of an earlier process say nothing of the time left
            self._bar.reset(self._task, completed=result.step - 1)
        for name in _SHOWN.keys() & result.terms.keys():
            value = result.terms[name]
            self._smooth[name] = 0.95 * self._smooth.get(name, value) + 0.05 * value
        terms = "  ".join(f"{_SHOWN[n]} {self._smooth[n]:.4f}" for n in _SHOWN if n in self._smooth)
        if measured := _MEASURED.keys() & result.terms.keys():
            self._measured = "".join(f"  {_MEASURED[n]} {result.terms[n]:.3f}" for n in _MEASURED if n in measured)
        terms += f"{self._measured}  {peak_memory():.0f} MiB"
        self._bar.update(self._task, completed=result.step, terms=terms)
        if not self._live and (measured or result.step == self.total or result.step % max(1, self.total // 10) == 0):
            self.console.print(
                f"step {result.step}/{self.total}  {terms}  {result.seconds:.2f} s/step", highlight=False
            )
