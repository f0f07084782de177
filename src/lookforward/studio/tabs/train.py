"""The tab Train: model, recipe and adapter, what they cost, and the queue of runs."""

import shlex
from types import SimpleNamespace
from typing import Any

from lookforward.assembly.memory import memory_table
from lookforward.errors import LookforwardError
from lookforward.runs.folder import open_run
from lookforward.studio.state import Studio
from lookforward.studio.store import OPEN
from lookforward.studio.studies import view_study
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import duration, message, render
from lookforward.studio.training import (
    Request,
    adapter_notes,
    estimate_time,
    model_notes,
    prepare,
    recipe_notes,
    resume_words,
)
from lookforward.studio.watching import view_run

TITLE = "Train"
_SHOWN = 8  # jobs of the queue that have ended


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    parts = _lay_out(gr, studio)
    _connect_form(gr, studio, parts)
    _connect_queue(gr, studio, tab, page, parts)


def _lay_out(gr: Any, studio: Studio) -> SimpleNamespace:
    recipes, adapters, models = recipe_notes(), adapter_notes(), model_notes(studio.workspace.models)
    with gr.Row():
        subject = gr.Dropdown([], label="Subject", min_width=200)
        model = gr.Dropdown(list(studio.workspace.models), value=studio.workspace.models[0], label="Model")
        recipe = gr.Dropdown(list(recipes), value="look-forward", label="Recipe")
        adapter = gr.Dropdown(list(adapters), value="full", label="Adapter")
    about = gr.HTML(about_choice("look-forward", "full"))
    with gr.Accordion("What each model, recipe and adapter is good for", open=False):
        tables = {"model": models, "recipe": recipes, "adapter": adapters}
        shown = "".join(render("choices", what=what, notes=notes) for what, notes in tables.items())
        gr.HTML(f'<div class="lf-wrap">{shown}</div>')
    with gr.Row():
        steps = gr.Number(0, label="Steps", info="0: the recipe's", precision=0, minimum=0, min_width=120)
        resolution = gr.Number(0, label="Resolution", info="0: the recipe's", precision=0, minimum=0, min_width=120)
        seed = gr.Number(0, label="Seed", info="Same seed, same run", precision=0, minimum=0, min_width=120)
        output = gr.Textbox(label="Name of the run", info="Empty: subject and recipe", max_lines=1, min_width=180)
    with gr.Row():
        measure = gr.Checkbox(True, label="Measure while training, and export the best step")
        until_best = gr.Checkbox(label="Stop when it no longer gains (the number of steps is chosen)")
    with gr.Accordion("Further settings", open=False):
        identifier = gr.Textbox(label="Identifier", info="Rare word for the subject. Empty: sks", max_lines=1)
        more = gr.Textbox(label="Settings", info="One a line, such as critic.weight = 0.5", lines=3, max_lines=8)
    with gr.Row():
        check = gr.Button("Check and estimate", min_width=150)
        start = gr.Button("Start", variant="primary", min_width=150)
    said, outlook = gr.HTML(), gr.HTML()
    gr.HTML("<h2>Queue</h2>")
    queue = gr.HTML()
    with gr.Row(elem_classes="lf-line"):
        run = gr.Dropdown([], label="Run", min_width=200)
        stop = gr.Button("Stop", variant="stop", min_width=110)
        resume = gr.Button("Resume", min_width=110)
    timer = gr.Timer(2.0)
    form = [subject, recipe, adapter, model, identifier, steps, resolution, seed, measure, until_best, more, output]
    return SimpleNamespace(
        subject=subject, recipe=recipe, adapter=adapter, form=form, about=about, check=check, start=start, said=said,
        outlook=outlook, queue=queue, run=run, stop=stop, resume=resume, timer=timer,
    )  # fmt: skip


def _connect_form(gr: Any, studio: Studio, parts: SimpleNamespace) -> None:
    @answered(gr, studio, 1)
    def checked(*values: Any) -> tuple[Any, ...]:
        return "", show_outlook(studio, read_form(studio, *values))

    @answered(gr, studio, 3)
    def started(*values: Any) -> tuple[Any, ...]:
        prepared = prepare(read_form(studio, *values), studio.workspace, studio.store)
        studio.store.add_job(prepared.run, prepared.words)
        text = message(f"{prepared.run} is in the queue. Watch it on the tab Watch.", "good")
        return text, "", show_queue(studio), choose(gr, _runs(studio), prepared.run)

    chosen = [parts.recipe, parts.adapter]
    gr.on([parts.recipe.change, parts.adapter.change], about_choice, chosen, parts.about, **ANY)
    parts.check.click(checked, parts.form, [parts.said, parts.outlook], **ANY)
    parts.start.click(started, parts.form, [parts.said, parts.outlook, parts.queue, parts.run], **ANY)


def _connect_queue(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    @answered(gr, studio, 1)
    def stopped(name: str | None) -> tuple[Any, ...]:
        if not name or not studio.runner.stop(name):
            raise LookforwardError("That run is neither waiting nor training here.", "job-missing")
        return message(f"{name} stops after its step, which it saves. Resume goes on from there."), show_queue(studio)

    @answered(gr, studio, 1)
    def resumed(name: str | None) -> tuple[Any, ...]:
        return message(f"{name} is in the queue again.", "good"), resume_run(studio, name)

    def refreshed(subject: str | None, run: str | None) -> tuple[Any, ...]:
        return choose(gr, studio.workspace.subjects(), subject), choose(gr, _runs(studio), run), show_queue(studio)

    def ticked(before: str) -> Any:
        now = show_queue(studio)
        return gr.skip() if now == before else now

    for event in (page.load, tab.select):
        event(refreshed, [parts.subject, parts.run], [parts.subject, parts.run, parts.queue], **ANY)
    parts.stop.click(stopped, parts.run, [parts.said, parts.queue], **ANY)
    parts.resume.click(resumed, parts.run, [parts.said, parts.queue], **ANY)
    parts.timer.tick(ticked, parts.queue, parts.queue, **ANY)


def read_form(
    studio: Studio, name: str | None, recipe: str, adapter: str, model: str, identifier: str | None,
    steps: float | None, resolution: float | None, seed: float | None, measure: bool, until_best: bool,
    more: str | None, output: str | None,
) -> Request:  # fmt: skip
    """What the form asks for. Raises LookforwardError where no subject is chosen."""
    if not name:
        raise LookforwardError("Choose a subject first, or make one on the tab Subject.", "subject-missing")
    return Request(
        name, studio.store.subject(name).class_noun, recipe, adapter, model, identifier or "", int(steps or 0),
        int(resolution or 0), int(seed or 0), bool(measure), bool(until_best), more or "", (output or "").strip(),
    )  # fmt: skip


def about_choice(recipe: str | None, adapter: str | None) -> str:
    """What a recipe and an adapter are, as HTML."""
    found = {recipe: recipe_notes().get(recipe or "", ""), adapter: adapter_notes().get(adapter or "", "")}
    return render("about", notes=found)


def show_outlook(studio: Studio, request: Request) -> str:
    """What a run would cost, as HTML. Raises LookforwardError for what is wrong in the form."""
    prepared = prepare(request, studio.workspace, studio.store)
    settings = prepared.settings
    table, time = memory_table(settings), estimate_time(settings, studio.workspace)
    rows = [
        (
            row.part,
            row.bytes / 2**30,
            " and ".join(["training"] * row.training + ["drawing"] * row.drawing) or "neither",
        )
        for row in table.rows
    ]
    words = settings.subject
    name = f"{words.identifier} {words.class_noun}" if words.noun_in_prompt else words.identifier
    return render(
        "outlook", steps=settings.run.steps, resolution=settings.data.resolution, time=duration(time.seconds),
        source=time.source, prompt=f"a photo of {name}", peak=table.peak / 2**30, rows=rows, unknown=table.unknown,
        notes=map(studio.workspace.relative, prepared.notes), command=shlex.join(["lookforward", *prepared.words]),
    )  # fmt: skip


def show_queue(studio: Studio) -> str:
    """The queue as HTML: what is open, and the last jobs that have ended."""
    jobs = studio.store.jobs()
    ended = [job for job in jobs if job.state not in OPEN][-_SHOWN:]
    rows = []
    for job in [*ended, *(job for job in jobs if job.state in OPEN)]:
        step = steps = 0
        if job.state in ("running", "stopping") and not job.study:
            view = view_run(job.run, studio.workspace, studio.store)
            step, steps = view.step, view.steps
        elif job.state in ("running", "stopping"):
            study = view_study(job.study, studio)
            step, steps = study.images, study.plan.images if study.plan else 0
        rows.append((job, step, steps))
    return render("queue", jobs=rows)


def resume_run(studio: Studio, name: str | None) -> str:
    """Put a run into the queue again; returns the queue as HTML.

    Raises:
        LookforwardError: there is no such run, or it is finished, in the queue, or was begun elsewhere.
    """
    if not name:
        raise LookforwardError("Choose a run first.", "run-missing")
    job = studio.store.last_job(name)
    words = job.words if job is not None and job.words[0] == "train" else None
    if words is None:
        words = resume_words(open_run(studio.workspace.run(name)), studio.workspace)
    if view_run(name, studio.workspace, studio.store).state == "finished":
        raise LookforwardError(f"{name} is finished already.", "run-finished")
    studio.store.add_job(name, words)
    return show_queue(studio)


def _runs(studio: Studio) -> list[str]:
    """Every run by name, those of the queue first."""
    return list(
        dict.fromkeys([*(job.run for job in studio.store.jobs(*OPEN) if not job.study), *studio.workspace.run_names()])
    )
