"""Train on photos."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

from lookforward.cli.account import account, commented
from lookforward.cli.consent import ask_consent
from lookforward.cli.console import console, print_memory, print_notes
from lookforward.cli.options import RunOptions
from lookforward.texts import MOST_OF_NOTE, visible


def train(
    photos: tyro.conf.Positional[Path],
    recipe: str = "look-forward",
    output: Path | None = None,
    dry_run: bool = False,
    fit: Literal[8, 12, 16, 24] | None = None,
    until_best: bool = False,
    consent: str = "",
    *,
    settings: RunOptions,
) -> None:
    """Train a text-to-image model on photos of your subject.

    Run the same command again to resume an interrupted run. Every setting is an option. The model, the recipe and the
    adapter may change the defaults below; --dry-run prints the values that this run would use.

    Args:
        photos: Folder with 4 to 6 photos of one subject, or a TOML file that lists several subjects.
        recipe: Name of a bundled recipe, or a TOML file of settings. Options override it. An unknown name lists
            all recipes.
        output: Run folder. Default: runs/PHOTOS-RECIPE, or runs/PHOTOS-RECIPE-ADAPTER with an adapter.
        until_best: Choose the number of steps: measure identity and prompt following during training, stop
            when they no longer improve, and export the best step.
        consent: Who took the photos, and that they and whoever is shown agree to the training. The run and its model
            card record the sentence. Without it, train asks in a terminal; see docs/provenance.md.
        dry_run: Check everything, print the resolved settings and the memory of each component, and exit.
        fit: Choose settings so that the run fits on a GPU with this many GB, and print them with the reasons.
    """
    from lookforward.assembly import check
    from lookforward.assembly.memory import memory_table
    from lookforward.assembly.processes import join_processes, leave_processes
    from lookforward.assembly.training import TrainingJob
    from lookforward.config.reading import flatten, to_toml
    from lookforward.config.recipe import load_settings, recipe_notes, require_followed, written_settings
    from lookforward.config.recipe import until_best as with_own_end
    from lookforward.data.subjects import name_subjects, photos_name, read_subject, with_notes
    from lookforward.exports.load import read_manifest
    from lookforward.runs.folder import default_output

    given = flatten(settings) | {"subject.photos": photos_name(photos)}
    if fit is not None:
        say = commented(console.print) if dry_run else console.print
        given |= _choose(recipe, name_subjects(photos, given), fit, say)
    named = name_subjects(photos, given)
    resolved, written = load_settings(recipe, named), written_settings(recipe, named)
    require_followed(resolved, given)
    resolved = with_own_end(resolved, given) if until_best else resolved
    processes = join_processes(resolved.model.device, resolved.run.shard)
    if not processes.main:
        console.quiet = True
    subject = with_notes(read_subject(photos, resolved), recipe_notes(recipe, named))
    folder = output or default_output(resolved)
    job = TrainingJob(folder, resolved, subject, given=written, processes=processes, consent=consent)
    resolved = job.settings
    if job.run.finished:
        known = (*subject.notes, *job.agreement.notes)  # which the run said when it began
        print_notes(note for note in job.notes if note not in known)
        console.print(f"{folder} is already finished. Generate images with it: {_example(folder, resolved)}")
    elif dry_run:
        notes = check(resolved, subject, written, processes)
        say = commented(console.print)  # so that the whole is TOML, which can be given as a recipe
        for line in (
            *account(subject),
            *(f"Note: {visible(note, MOST_OF_NOTE)}" for note in (*notes, *job.agreement.notes)),
        ):
            say(line)
        console.print(f"\n{to_toml(resolved)}")
        print_memory(memory_table(resolved), say)
        say(f"\nWould train {resolved.run.steps} steps on {_count_photos(subject)} into {folder}.")
    else:
        ask_consent(job)
        last = _run_job(job, resolved.run.steps)
        if resolved.evaluation.every:
            step = read_manifest(job.run.export).get("step", last)
            rising = "; scores were still rising, so more steps may help" if step == last else ""
            console.print(f"Step {step} of {last} is exported: the best that was measured{rising}.")
        console.print(f"Done: {folder}. Generate images with it: {_example(folder, resolved)}")
    leave_processes()


def _run_job(job: Any, steps: int) -> int:
    """Train to the end; returns the last step."""
    from lookforward.cli.progress import TrainingProgress

    console.print(f"Training on {_count_photos(job.subject)} into {job.run.folder} …")
    last = 0
    for line in account(job.subject):
        console.print(line)
    with TrainingProgress(steps, console) as progress:
        for i, result in enumerate(job):
            if i == 0:  # before it, the job had not looked at the model yet
                print_notes(job.notes)
                if job.resumed_at:
                    console.print(f"Continuing after step {job.resumed_at}.")
            progress.show(result)
            last = result.step
    return last or job.resumed_at or steps  # of a run that was stopped before its export, no step is left


def _choose(recipe: str, given: dict[str, Any], gigabytes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Settings to add so that the run fits, after they were shown."""
    from lookforward.assembly.fit import RESERVE, fit

    chosen = fit(recipe, given, gigabytes)
    needs = f"{chosen.table.peak / 2**30:.1f} GiB, and about {RESERVE:g} GiB beside it"
    say(f"To fit {gigabytes} GB ({needs}):" if chosen.reasons else f"Fits {gigabytes} GB as it is ({needs}).")
    for reason in chosen.reasons:
        say(f"  {reason}")
    return chosen.changes


def _count_photos(subject: Any) -> str:
    counts = [len(one.photos) for one in subject.together]
    return f"{sum(counts)} photos" + (f" of {len(counts)} subjects" if len(counts) > 1 else "")


def _example(folder: Path, settings: Any) -> str:
    words = (
        f"{settings.subject.identifier} {settings.subject.class_noun}"
        if settings.subject.noun_in_prompt
        else settings.subject.identifier
    )
    return f'lookforward generate {shlex.quote(str(folder))} "a photo of {words} on the beach"'
