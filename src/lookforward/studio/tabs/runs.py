"""The tab Runs: all runs and their scores in one table; open, score and delete them."""

from types import SimpleNamespace
from typing import Any

from lookforward.errors import LookforwardError
from lookforward.runs.folder import open_run
from lookforward.studio.state import Studio
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import message, render
from lookforward.studio.watching import describe_settings, runs_table, view_run

TITLE = "Runs"


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    table, said = gr.HTML(), gr.HTML()
    with gr.Row(elem_classes="lf-line"):
        run = gr.Dropdown([], label="Run", min_width=200)
        show = gr.Button("Open", min_width=100)
        score = gr.Button("Score", min_width=100)
        delete = gr.Button("Delete …", variant="stop", min_width=100)
    with gr.Group(visible=False) as asking:
        question = gr.HTML()
        with gr.Row():
            yes = gr.Button("Delete it for good", variant="stop")
            no = gr.Button("Keep it", variant="primary")
    asked = gr.State("")
    details = gr.Textbox(label="Settings that differ from the defaults", lines=8, visible=False, interactive=False)
    parts = SimpleNamespace(
        table=table, said=said, run=run, show=show, score=score, delete=delete, asking=asking, question=question,
        yes=yes, no=no, asked=asked, details=details,
    )  # fmt: skip
    _connect(gr, studio, tab, page, parts)


def _connect(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    def refreshed(now: str | None) -> tuple[Any, ...]:
        headers, rows = runs_table(studio.workspace, studio.store)
        return render("runs", headers=headers, rows=rows), choose(gr, [row[0] for row in rows], now)

    @answered(gr, studio, 1)
    def opened(name: str | None) -> tuple[Any, ...]:
        found = open_run(studio.workspace.run(_chosen(name)))
        return "", gr.update(value=describe_settings(found), visible=True, label=f"Settings of {name}")

    @answered(gr, studio, 0)
    def scored(name: str | None) -> str:
        queue_score(studio, name)
        return message(f"{name} will be scored after what is in the queue. Then open this tab again.", "good")

    @answered(gr, studio, 3)
    def ask(name: str | None) -> tuple[Any, ...]:
        require_idle(studio, name)
        text = f"Delete {name} with its export, checkpoints and images? This cannot be undone."
        return "", gr.update(visible=True), message(text, "error"), name

    @answered(gr, studio, 4)
    def confirmed(name: str) -> tuple[Any, ...]:
        delete_run(studio, name)
        return message(f"{name} is deleted."), gr.update(visible=False), "", *refreshed(None)

    for event in (page.load, tab.select):
        event(refreshed, parts.run, [parts.table, parts.run], **ANY)
    parts.show.click(opened, parts.run, [parts.said, parts.details], **ANY)
    parts.score.click(scored, parts.run, parts.said, **ANY)
    parts.delete.click(ask, parts.run, [parts.said, parts.asking, parts.question, parts.asked], **ANY)
    parts.no.click(lambda: (gr.update(visible=False), ""), None, [parts.asking, parts.asked], **ANY)
    parts.yes.click(confirmed, parts.asked, [parts.said, parts.asking, parts.asked, parts.table, parts.run], **ANY)


def require_idle(studio: Studio, name: str | None) -> str:
    """The name of a run that may be deleted. Raises LookforwardError if it trains or waits, or is none."""
    view = view_run(_chosen(name), studio.workspace, studio.store)
    if view.state in ("training", "waiting", "stopping", "scoring"):
        raise LookforwardError(f"{name} is {view.state}: stop it first.", "run-busy")
    return view.name


def delete_run(studio: Studio, name: str | None) -> None:
    """Delete a run that was asked for. Raises LookforwardError as `require_idle`."""
    idle = require_idle(studio, name)
    studio.workspace.delete_run(idle)
    studio.store.forget_run(idle)


def queue_score(studio: Studio, name: str | None) -> None:
    """Put the scoring of a finished run into the queue. Raises LookforwardError for any other."""
    view = view_run(_chosen(name), studio.workspace, studio.store)
    if view.state != "finished":
        raise LookforwardError(f"{name} is not finished: only finished runs are scored.", "run-unfinished")
    studio.store.add_job(view.name, ["score", f"{studio.workspace.runs.name}/{view.name}"])


def _chosen(name: str | None) -> str:
    if not name:
        raise LookforwardError("Choose a run first.", "run-missing")
    return name
