"""The tab Watch: a run while it trains, its samples, the chosen step, and the choice of another."""

import math
from itertools import pairwise
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
    slider = gr.Slider(0, 1, value=0, step=1, label="Samples after step", interactive=True, buttons=[])
    sample = gr.HTML()
    with gr.Row(elem_classes="lf-line"):
        export = gr.Dropdown([], label="Use this step for drawing", info="The run's own choice comes first")
        pick = gr.Button("Pick it", min_width=110, scale=0)
    timer, place = gr.Timer(2.0), gr.State(0)
    parts = SimpleNamespace(
        run=run,
        said=said,
        shown=shown,
        slider=slider,
        sample=sample,
        export=export,
        pick=pick,
        timer=timer,
        place=place,
    )
    _connect(gr, studio, tab, page, parts)


def _connect(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    def names() -> list[str]:
        jobs = [job.run for job in studio.store.jobs("running", "waiting", "stopping") if not job.study]
        return list(dict.fromkeys([*jobs, *studio.workspace.run_names()]))

    def listing(now: str | None) -> Any:
        return choose(gr, names(), now)

    @answered(gr, studio, 4)
    def opened(name: str | None) -> tuple[Any, ...]:
        if not name:
            return "", _NONE, gr.skip(), gr.skip(), choose(gr, [], None)
        view = view_run(name, studio.workspace, studio.store)
        last = view.samples[-1][0] if view.samples else 0
        return "", show_run(view), _slider(gr, view, last), show_sample(view, last), _exports(gr, view, view.picked)

    @answered(gr, studio, 4)
    def ticked(name: str | None, before: str, place: int) -> tuple[Any, ...]:
        if not name:
            return (gr.skip(),) * 5
        view = view_run(name, studio.workspace, studio.store)
        html = show_run(view)
        if html == before:
            return (gr.skip(),) * 5
        return gr.skip(), html, *_followed(gr, view, place), _exports(gr, view, view.picked)

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
    # Not the slider itself: Gradio refuses a value that the range, which has just grown, did not have
    parts.timer.tick(ticked, [parts.run, parts.shown, parts.place], everything, **ANY)
    parts.slider.change(int, parts.slider, parts.place, **ANY)
    parts.slider.input(slid, [parts.run, parts.slider], parts.sample, **ANY)
    parts.pick.click(picked, [parts.run, parts.export], [parts.said, parts.shown], **ANY)


def show_run(view: RunView) -> str:
    """The state of a run and its curves as HTML."""
    panels = charts(view)
    picked = dict(view.exports).get(view.picked)
    left = duration(view.left) if view.state == "training" and view.left > 0 else ""
    drawn = [chart({title: lines}, view.chosen) for title, lines in panels.items()]
    chosen = f"step {picked}" if picked else ""
    return render("run", view=view, left=left, charts=drawn, summary=_summary(view), picked=chosen)


def show_sample(view: RunView, step: int) -> str:
    """The sheet of samples of a step as HTML, or of the nearest step that has one."""
    if not view.samples:
        return render("sample", name="")
    step, name = min(view.samples, key=lambda one: abs(one[0] - step))
    url = f"/picture/{quote(view.name)}/samples/{quote(name)}"
    return render("sample", name=name, url=url, run=view.name, step=step, chosen=view.chosen)


def _followed(gr: Any, view: RunView, step: int) -> tuple[Any, Any]:
    """Slider and sample after new ones came: the newest if the last but one was shown, or else what was shown."""
    steps = [step for step, _ in view.samples]
    if steps and (step < steps[0] or step >= steps[-2:][0]):
        return _slider(gr, view, steps[-1]), show_sample(view, steps[-1])
    return _slider(gr, view, step), gr.skip()


def _slider(gr: Any, view: RunView, step: int) -> Any:
    steps = [step for step, _ in view.samples]
    if len(steps) < 2:
        return gr.update(interactive=False)
    apart = math.gcd(*(b - a for a, b in pairwise(steps)))
    return gr.update(minimum=steps[0], maximum=steps[-1], step=apart, value=step, interactive=True)


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
