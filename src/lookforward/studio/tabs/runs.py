"""The tab Runs: all runs and their scores in one table; open, score and delete them. And the blind study."""

from typing import Any

from lookforward.errors import LookforwardError
from lookforward.studio.app import Studio
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import message, render
from lookforward.studio.watching import describe_settings, runs_table, view_run

TITLE = "Runs"
_STUDY = """<section class="lf-card"><h2>Ask people: the blind study</h2>
<p>Scores are computed by networks. In a study, people compare images of two methods without knowing which is which.
Train each subject with both methods, then, in a terminal:</p>
<pre class="lf-scroll" tabindex="0">lookforward study create runs/dog-look-forward runs/dog-dreambooth
lookforward study serve study.sqlite
lookforward study report study.sqlite</pre></section>"""


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    table, said = gr.HTML(), gr.HTML()
    with gr.Row():
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
    gr.HTML(_STUDY)

    def refreshed(now: str | None) -> tuple[Any, ...]:
        headers, rows = runs_table(studio.workspace, studio.store)
        return render("runs", headers=headers, rows=rows), choose(gr, [row[0] for row in rows], now)

    @answered(gr, 1)
    def opened(name: str | None) -> tuple[Any, ...]:
        from lookforward.runs.folder import open_run

        found = open_run(studio.workspace.run(_chosen(name)))
        return "", gr.update(value=describe_settings(found), visible=True, label=f"Settings of {name}")

    @answered(gr, 0)
    def scored(name: str | None) -> str:
        view = view_run(_chosen(name), studio.workspace, studio.store)
        if view.state != "finished":
            raise LookforwardError(f"{name} is not finished: only finished runs are scored.", "run-unfinished")
        studio.store.add_job(view.name, ["score", f"{studio.workspace.runs.name}/{view.name}"])
        return message(f"{name} will be scored after what is in the queue. Then open this tab again.", "good")

    @answered(gr, 3)
    def ask(name: str | None) -> tuple[Any, ...]:
        view = view_run(_chosen(name), studio.workspace, studio.store)
        if view.state in ("training", "waiting", "stopping"):
            raise LookforwardError(f"{name} is {view.state}: stop it first.", "run-busy")
        text = f"Delete {name} with its export, checkpoints and images? This cannot be undone."
        return "", gr.update(visible=True), message(text, "error"), name

    @answered(gr, 4)
    def confirmed(name: str) -> tuple[Any, ...]:
        view = view_run(_chosen(name), studio.workspace, studio.store)
        if view.state in ("training", "waiting", "stopping"):
            raise LookforwardError(f"{name} is {view.state}: stop it first.", "run-busy")
        studio.workspace.delete_run(name)
        studio.store.forget_run(name)
        return message(f"{name} is deleted."), gr.update(visible=False), "", *refreshed(None)

    page.load(refreshed, run, [table, run], **ANY)
    tab.select(refreshed, run, [table, run], **ANY)
    show.click(opened, run, [said, details], **ANY)
    score.click(scored, run, said, **ANY)
    delete.click(ask, run, [said, asking, question, asked], **ANY)
    no.click(lambda: (gr.update(visible=False), ""), None, [asking, asked], **ANY)
    yes.click(confirmed, asked, [said, asking, asked, table, run], **ANY)


def _chosen(name: str | None) -> str:
    if not name:
        raise LookforwardError("Choose a run first.", "run-missing")
    return name
