"""Ask for a statement of consent, where somebody can answer."""

import sys
from typing import TYPE_CHECKING

from lookforward.cli.console import console
from lookforward.launch import process_count

if TYPE_CHECKING:
    from lookforward.assembly.training import TrainingJob

_QUESTION = (
    "Who took these photos, and do they and whoever is shown agree that a model learns from them? The run and its "
    "model card record your sentence. Press Enter to record none."
)


def ask_consent(job: "TrainingJob") -> None:
    """Ask once in a terminal, unless the user gave a statement or the run has begun; elsewhere, ask nothing."""
    if job.agreement.open and process_count() == 1 and sys.stdin.isatty() and sys.stdout.isatty():
        console.print(_QUESTION)
        try:
            answer = input("> ").strip()
        except EOFError:
            answer = ""
        if answer:
            job.agree(answer)
