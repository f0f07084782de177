"""The tab Watch: a run while it trains, its samples, the chosen step, and the choice of another."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from lookforward.errors import LookforwardError
from lookforward.studio.charts import chart
from lookforward.studio.state import Studio
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import duration, message, render
from lookforward.studio.watching import RunView, charts, view_run

TITLE = "Watch"
_NONE = '<p class="lf-empty">No run is chosen. Start one on the tab Train.</p>'


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    run = gr.Dropdown([], label="Run")
    said, shown = gr.HTML(), gr.HTML(_NONE)
    slider = gr.Slider(0, 1, value=0, step=1, label="Samples", info="From the first to the last step", interactive=True)
    sample = gr.HTML()
    with gr.Row():
        export = gr.Dropdown([], label="Use this step for drawing", info="The run's own choice comes first")
        pick = gr.Button("Pick it", min_width=110, scale=0)
    timer = gr.Timer(2.0)
    parts = SimpleNamespace(
        run=run, said=said, shown=shown, slider=slider, sample=sample, export=export, pick=pick, timer=timer
    )
    _connect(gr, studio, tab, page, parts)


def _connect(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    def names() -> list[str]:
        jobs = [job.run for job in studio.store.jobs("running", "waiting", "stopping")]
        return list(dict.fromkeys([*jobs, *studio.workspace.run_names()]))

    def listing(now: str | None) -> Any:
        return choose(gr, names(), now)

    @answered(gr, studio, 4)
    def opened(name: str | None) -> tuple[Any, ...]:
        if not name:
            return "", _NONE, gr.skip(), gr.skip(), choose(gr, [], None)
        view = view_run(name, studio.workspace, studio.store)
        last = max(0, len(view.samples) - 1)
        return "", show_run(view), _slider(gr, view, last), show_sample(view, last), _exports(gr, view, view.picked)

    @answered(gr, studio, 4)
    def ticked(name: str | None, before: str, place: float, now: str | None) -> tuple[Any, ...]:
        if not name:
            return (gr.skip(),) * 5
        view = view_run(name, studio.workspace, studio.store)
        html = show_run(view)
        if html == before:
            return (gr.skip(),) * 5
        return gr.skip(), html, *_followed(gr, view, int(place)), _exports(gr, view, now)

    @answered(gr, studio, 0)
    def slid(name: str | None, place: float) -> Any:
        return show_sample(view_run(name, studio.workspace, studio.store), int(place)) if name else ""

    @answered(gr, studio, 1)
    def picked(name: str | None, chosen: str | None) -> tuple[Any, ...]:
        view = view_run(name or "", studio.workspace, studio.store)
        if chosen not in dict(view.exports):
            raise LookforwardError("Choose an exported step first; a run has one when it ends.", "export-missing")
        studio.store.pick(view.name, chosen)
        text = message(f"The tab Draw now begins with step {dict(view.exports)[chosen]} of {view.name}.", "good")
        return text, show_run(view_run(view.name, studio.workspace, studio.store))

    everything = [parts.said, parts.shown, parts.slider, parts.sample, parts.export]
    for event in (page.load, tab.select):
        event(listing, parts.run, parts.run, **ANY)
    parts.run.change(opened, parts.run, everything, **ANY)
    parts.timer.tick(ticked, [parts.run, parts.shown, parts.slider, parts.export], everything, **ANY)
    parts.slider.input(slid, [parts.run, parts.slider], parts.sample, **ANY)
    parts.pick.click(picked, [parts.run, parts.export], [parts.said, parts.shown], **ANY)


def show_run(view: RunView) -> str:
    """The state of a run and its curves as HTML."""
    panels = charts(view)
    picked = dict(view.exports).get(view.picked)
    return render(
        "run", view=view, left=duration(view.left) if view.state == "training" and view.left > 0 else "",
        chart=chart(panels, view.chosen), summary=_summary(view), picked=f"step {picked}" if picked else "",
    )  # fmt: skip


def show_sample(view: RunView, place: int) -> str:
    """One sheet of samples as HTML, by its place among them."""
    if not view.samples:
        return render("sample", name="")
    step, name = view.samples[max(0, min(place, len(view.samples) - 1))]
    url = f"/picture/{quote(view.name)}/samples/{quote(name)}"
    return render("sample", name=name, url=url, run=view.name, step=step, chosen=view.chosen)


def _followed(gr: Any, view: RunView, place: int) -> tuple[Any, Any]:
    """Slider and sample after new samples came: at the end if they were there, or else where they were."""
    last = max(0, len(view.samples) - 1)
    if place >= last - 1:
        return _slider(gr, view, last), show_sample(view, last)
    return _slider(gr, view, place), gr.skip()


def _slider(gr: Any, view: RunView, place: int) -> Any:
    steps = [step for step, _ in view.samples]
    info = f"Steps {', '.join(map(str, steps))}" if 0 < len(steps) <= 12 else f"{len(steps)} sheets of samples"
    return gr.update(maximum=max(1, len(steps) - 1), value=place, info=info, interactive=len(steps) > 1)


def _exports(gr: Any, view: RunView, now: str | None) -> Any:
    labels = [(f"step {step}{', chosen' if path == 'export' else ''}", path) for path, step in view.exports]
    return choose(gr, labels, now)


def _summary(view: RunView) -> str:
    """The curves in words, for those who do not see them."""
    if not view.evaluations:
        return "The loss against the step."
    first, last = view.evaluations[0], view.evaluations[-1]
    return (
        f"Loss, identity and prompt following against the step. Identity went from {first.identity:.3f} to "
        f"{last.identity:.3f}, prompt following from {first.prompt:.3f} to {last.prompt:.3f}, up to step {last.step}."
    )
