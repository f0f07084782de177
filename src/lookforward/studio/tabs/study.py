"""The tab Study: a blind study from runs, its pages for raters, their answers as they come in, and its report."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from lookforward.errors import LookforwardError
from lookforward.studio import studies
from lookforward.studio.state import Studio
from lookforward.studio.store import study_key
from lookforward.studio.studies import StudyView
from lookforward.studio.tabs import study_form as form
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import message, render

TITLE = "Study"
_HERE, _NETWORK = "This machine only", "The network, by an address with a token"
_FILES = {
    "answers.csv": "Download all answers (CSV)",
    "report.html": "the report (HTML)",
    "report.md": "its tables (Markdown)",
}
_RATERS = 30  # shown


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    parts = SimpleNamespace(**form.lay_out(gr), **_lay_out_study(gr))
    form.connect(gr, studio, parts, show_table)
    _connect_study(gr, studio, tab, page, parts)
    _connect_deletion(gr, studio, parts)


def _lay_out_study(gr: Any) -> dict[str, Any]:
    gr.HTML("<h2>Studies</h2>")
    table = gr.HTML()
    study = gr.Dropdown([], label="Study", min_width=200)
    with gr.Row(elem_classes="lf-line"):
        stop = gr.Button("Stop drawing", min_width=120)
        resume = gr.Button("Go on drawing", min_width=120)
        delete = gr.Button("Delete the study …", variant="stop", min_width=120)
    with gr.Group(visible=False) as asking:
        question = gr.HTML()
        with gr.Row():
            yes = gr.Button("Delete the study for good", variant="stop")
            no = gr.Button("Keep the study", variant="primary")
    asked = gr.State("")
    who = gr.Radio([_HERE, _NETWORK], value=_HERE, label="Who can open the raters' page")
    with gr.Row():
        serve = gr.Button("Open it for raters", variant="primary", min_width=150)
        close = gr.Button("Close it", min_width=150)
    said, shown, report = gr.HTML(), gr.HTML(), gr.HTML()
    return {
        "table": table, "study": study, "stop": stop, "resume": resume, "delete": delete, "asking": asking,
        "question": question, "yes": yes, "no": no, "asked": asked, "who": who, "serve": serve, "close": close,
        "said": said, "shown": shown, "report": report, "timer": gr.Timer(2.0),
    }  # fmt: skip


def _connect_study(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    seen = [parts.said, parts.table, parts.shown, parts.report]

    def refreshed(runs: list[str] | None, methods: list[str] | None, study: str | None) -> tuple[Any, ...]:
        found = studies.finished_runs(studio.workspace)
        known = list(dict.fromkeys(found.values()))
        return (
            gr.update(choices=[(f"{run}, {method}", run) for run, method in found.items()], value=_kept(runs, found)),
            gr.update(choices=known, value=_kept(methods, known)),
            show_table(studio),
            choose(gr, studies.study_names(studio), study),
        )

    @answered(gr, studio, 3)
    def opened(name: str | None) -> tuple[Any, ...]:
        return "", show_table(studio), *show(studio, name)

    @answered(gr, studio, 3)
    def ticked(name: str | None, table: str, before: str) -> tuple[Any, ...]:
        now = show_table(studio)
        shown = show_study(studies.view_study(name, studio)) if name else ""
        if shown == before:  # the report costs more than a look
            return gr.skip(), gr.skip() if now == table else now, gr.skip(), gr.skip()
        return gr.skip(), now, shown, show_report(studio, name)

    def act(change: Any) -> Any:
        @answered(gr, studio, 3)
        def acted(name: str | None, who: str) -> tuple[Any, ...]:
            text = change(studio, _chosen(name), who)
            return message(text, "good"), show_table(studio), *show(studio, name)

        return acted

    lists = [parts.runs, parts.methods, parts.study]
    for event in (page.load, tab.select):
        event(refreshed, lists, [parts.runs, parts.methods, parts.table, parts.study], **ANY)
    parts.study.change(opened, parts.study, seen, **ANY)
    parts.timer.tick(ticked, [parts.study, parts.table, parts.shown], seen, **ANY)
    for button, change in (
        (parts.serve, _serve), (parts.close, _close), (parts.stop, _stop), (parts.resume, _resume),
    ):  # fmt: skip
        button.click(act(change), [parts.study, parts.who], seen, **ANY)


def _connect_deletion(gr: Any, studio: Studio, parts: SimpleNamespace) -> None:
    @answered(gr, studio, 3)
    def ask(name: str | None) -> tuple[Any, ...]:
        view = studies.require_idle(_chosen(name), studio)
        text = f"Delete {view.name} with its images and {view.answers} answers? This cannot be undone."
        return "", gr.update(visible=True), message(text, "error"), name

    @answered(gr, studio, 4)
    def confirmed(name: str) -> tuple[Any, ...]:
        studies.delete(_chosen(name), studio)
        text = message(f"{name} is deleted.")
        return text, gr.update(visible=False), "", show_table(studio), choose(gr, studies.study_names(studio), None)

    parts.delete.click(ask, parts.study, [parts.said, parts.asking, parts.question, parts.asked], **ANY)
    parts.no.click(lambda: (gr.update(visible=False), ""), None, [parts.asking, parts.asked], **ANY)
    parts.yes.click(confirmed, parts.asked, [parts.said, parts.asking, parts.asked, parts.table, parts.study], **ANY)


def show_table(studio: Studio) -> str:
    """All studies as HTML."""
    return render("studies", views=studies.list_studies(studio))


def show(studio: Studio, name: str | None) -> tuple[str, str]:
    """A study and its report as HTML. Raises LookforwardError if it is gone."""
    return (show_study(studies.view_study(name, studio)), show_report(studio, name)) if name else ("", "")


def show_study(view: StudyView) -> str:
    """The state of a study, the address of its raters' page and how far they are, as HTML."""
    return render("study", view=view, most=_RATERS)


def show_report(studio: Studio, name: str | None) -> str:
    """The report of a study as HTML; "" for one that has not all its images, or cannot be read."""
    try:
        sections = studies.report(name, studio.workspace) if name else []
    except LookforwardError:  # the study itself says what is wrong
        return ""
    url = f"/study/{quote(name or '')}/"
    return render("report", sections=sections, name=name, files=_FILES, url=lambda file: url + file) if sections else ""


def _serve(studio: Studio, name: str, who: str) -> str:
    studio.servers.start(name, public=who == _NETWORK)
    return f"The raters' page of {name} is starting: its address is below in a moment."


def _close(studio: Studio, name: str, _: str) -> str:
    if not studio.servers.stop(name):
        raise LookforwardError(f"Nothing shows {name} to raters.", "study-unserved")
    return f"The raters' page of {name} is closed. All answers are kept; raters go on when it is open again."


def _stop(studio: Studio, name: str, _: str) -> str:
    if not studio.runner.stop(study_key(name)):
        raise LookforwardError(f"{name} is neither waiting nor drawn here.", "job-missing")
    return f"{name} stops. The images that it has are kept."


def _resume(studio: Studio, name: str, _: str) -> str:
    studies.resume(name, studio)
    return f"{name} is in the queue again."


def _kept(values: list[str] | None, known: Any) -> list[str]:
    return [one for one in values or () if one in known]


def _chosen(name: str | None) -> str:
    if not name:
        raise LookforwardError("Choose a study first.", "study-missing")
    return name
