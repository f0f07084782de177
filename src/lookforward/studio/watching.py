"""What a run folder says of a run while it trains and afterwards: read from its files, so any run can be watched."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookforward.errors import LookforwardError
from lookforward.exports.load import read_manifest
from lookforward.files import read_json
from lookforward.report.curves import Line
from lookforward.runs.folder import LOCK, MANIFEST, Run, open_run
from lookforward.runs.step_choice import Evaluation, read_evaluations
from lookforward.studio.store import Job, Store
from lookforward.studio.training import step_seconds
from lookforward.studio.workspace import Workspace

_SMOOTH = 0.9
_POINTS = 400  # of a line, at most
_QUIET = 120.0  # seconds after which a run that says nothing is taken for stopped
_TERMS = {"loss": "loss", "noise_loss": "noise", "critic_loss": "critic", "reward": "reward"}


@dataclass(frozen=True)
class RunView:
    """A run at this moment. state: "finished", "training", "waiting", "stopped", "failed" or "new".

    step: the last one that was logged. chosen: the step of the export, 0 while there is none; picked: the export that
    the user chose, "" for the run's own. exports: names of the exports and their steps. left: seconds to the last step.
    """

    name: str
    state: str
    message: str
    step: int
    steps: int
    recipe: str
    adapter: str
    model: str
    subject: str
    left: float
    chosen: int
    picked: str
    rows: list[dict[str, Any]] = field(repr=False)
    evaluations: list[Evaluation] = field(repr=False)
    samples: tuple[tuple[int, str], ...] = ()
    exports: tuple[tuple[str, int], ...] = ()


def view_run(name: str, workspace: Workspace, store: Store) -> RunView:
    """What is known of a run.

    Raises:
        LookforwardError: there is neither a run folder of that name nor a job for one.
    """
    job = store.last_job(name)
    folder = workspace.run(name)
    try:
        run = open_run(folder)
        rows, evaluations = run.read_metrics(), read_evaluations(run.evaluations)
    except LookforwardError as error:
        if job is None:
            raise
        message = job.message or ("" if error.code == "run-missing" else workspace.relative(str(error)))
        state = job.state if job.state != "running" else "training"
        return RunView(name, state, message, 0, 0, "", "", "", "", 0.0, 0, "", [], [])
    settings, step = run.settings, int(rows[-1]["step"]) if rows else 0
    exports = list_exports(run)
    chosen = dict(exports).get("export", 0)
    seconds = step_seconds(rows)
    state, message = _state(run, job)
    return RunView(
        name, state, message, step, settings.run.steps, settings.run.recipe, settings.adapter.name,
        settings.model.name, f"{settings.subject.identifier} {settings.subject.class_noun}",
        sum(seconds) / len(seconds) * (settings.run.steps - step) if seconds else 0.0,
        chosen, store.picked(name), rows, evaluations, list_samples(run), exports,
    )  # fmt: skip


def list_exports(run: Run) -> tuple[tuple[str, int], ...]:
    """(name, step) of each export: "export", the run's own, "exports/last", "exports/step-000100"."""
    found = []
    for path in (run.export, *sorted(run.exports.glob("*"))):
        if (path / MANIFEST).is_file():
            try:
                step = int(read_manifest(path).get("step", run.settings.run.steps))
            except LookforwardError:
                continue  # damaged: nothing can be drawn with it
            found.append((path.relative_to(run.folder).as_posix(), step))
    return tuple(found)


def list_samples(run: Run) -> tuple[tuple[int, str], ...]:
    """(step, file name) of each sheet of samples."""
    found = []
    for path in sorted(run.samples.glob("step-*.png")):
        number = path.stem.removeprefix("step-")
        if number.isdecimal():
            found.append((int(number), path.name))
    return tuple(found)


def charts(view: RunView) -> dict[str, dict[str, Line]]:
    """Title → label → (steps, values): the loss, and identity and prompt score where they are measured."""
    panels: dict[str, dict[str, Line]] = {}
    logged: dict[str, Line] = {}
    for term, label in _TERMS.items():
        points = [(row["step"], row[term]) for row in view.rows if isinstance(row.get(term), int | float)]
        if points and term in ("loss", "noise_loss"):
            steps, values = zip(*points, strict=True)
            logged[label] = _thinned(steps, _smooth(values))
    if logged:
        panels["loss, smoothed"] = logged
    if view.evaluations:
        steps = [one.step for one in view.evaluations]
        panels["identity"] = {"identity": (steps, [one.identity for one in view.evaluations])}
        panels["prompt following (CLIP-T)"] = {"prompt": (steps, [one.prompt for one in view.evaluations])}
    return panels


def read_scores(folder: Path) -> dict[str, float]:
    """The means of scores.json; none if the run has not been scored."""
    try:
        means = read_json(folder / "scores.json", dict[str, Any]).get("means", {})
        return {str(name): float(value) for name, value in means.items()}
    except (LookforwardError, AttributeError, TypeError, ValueError):
        return {}


def runs_table(workspace: Workspace, store: Store) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: every run with what is known of it."""
    names = list(dict.fromkeys([*(job.run for job in store.jobs("waiting") if not job.study), *workspace.run_names()]))
    views = []
    for name in names:
        try:
            views.append(view_run(name, workspace, store))
        except LookforwardError as error:
            views.append(RunView(name, "unreadable", str(error), 0, 0, "", "", "", "", 0.0, 0, "", [], []))
    scores = {view.name: read_scores(workspace.run(view.name)) for view in views}
    columns = list(dict.fromkeys(name for one in scores.values() for name in one))
    headers = ["run", "state", "recipe", "adapter", "steps", "chosen", "identity", "prompt", *columns]
    rows = []
    for view in views:
        at = next((one for one in view.evaluations if one.step == view.chosen), None)
        measured = [f"{at.identity:.3f}", f"{at.prompt:.3f}"] if at else ["", ""]
        rows.append([
            view.name, view.state, view.recipe, view.adapter, f"{view.step}/{view.steps}" if view.steps else "",
            str(view.chosen or ""), *measured,
            *(f"{scores[view.name][one]:.3f}" if one in scores[view.name] else "" for one in columns),
        ])  # fmt: skip
    return headers, rows


def _state(run: Run, job: Job | None) -> tuple[str, str]:
    if job is not None and job.state in ("running", "stopping", "waiting"):
        working = "scoring" if job.words[0] == "score" else "training"
        return working if job.state == "running" else job.state, ""
    if run.finished:
        return "finished", job.message if job is not None else ""
    if _at_work(run):
        return "training", "It was started from the command line."
    if job is not None and job.state == "failed":
        return "failed", job.message
    return "stopped", "Resume it to go on from its last checkpoint."


def _at_work(run: Run) -> bool:
    """Whether a process seems to train here that the studio did not start. Its lock is not touched."""
    if not (run.folder / LOCK).exists():
        return False
    times = []
    for path in (run.metrics, run.folder / LOCK, run.folder / "settings.toml"):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return bool(times) and time.time() - max(times) < _QUIET


def _smooth(values: Sequence[float]) -> list[float]:
    smoothed, last = [], float(values[0])
    for value in values:
        last = _SMOOTH * last + (1 - _SMOOTH) * float(value)
        smoothed.append(last)
    return smoothed


def _thinned(xs: Sequence[float], ys: Sequence[float]) -> Line:
    every = max(1, -(-len(xs) // _POINTS))
    return [*xs[::every]], [*ys[::every]]


def describe_settings(run: Run) -> str:
    """The settings of a run that differ from the defaults, as JSON lines for people."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in run.settings.changed().items())
