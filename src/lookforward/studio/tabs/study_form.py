"""The form of the tab Study: which runs, methods and images a study has, and of what size."""

import shlex
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from lookforward.studio import studies
from lookforward.studio.state import Studio
from lookforward.studio.studies import StudyRequest
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import duration, message, render

_ABOUT = (
    '<p class="lf-small">Scores are computed by networks. In a study, people compare images of two methods without '
    "knowing which is which.</p>"
)
_BEST, _FIRST = "The best of several by CLIP-T, as in the paper", "The first one drawn"


def lay_out(gr: Any) -> dict[str, Any]:
    """The components of the form, in the open context."""
    gr.HTML(f"{_ABOUT}<h2>Create a study</h2>")
    runs = gr.Dropdown(
        [], multiselect=True, label="Finished runs", info="Of each subject, one run of every method, with the same seed"
    )
    with gr.Row():
        methods = gr.Dropdown([], multiselect=True, label="Methods to compare", info="None: all of the runs'")
        picking = gr.Radio([_BEST, _FIRST], value=_BEST, label="Images that raters see")
        candidates = gr.Number(
            8, label="Images to pick from", info="For the best of several", precision=0, minimum=2, min_width=120
        )
    with gr.Row():
        count = gr.Number(5, label="Prompts", info="Of each subject; 0: all", precision=0, minimum=0, min_width=120)
        shown = gr.Number(0, label="Pairs for a rater", info="0: all", precision=0, minimum=0, min_width=120)
        repeats = gr.Number(3, label="Shown twice", info="To check raters", precision=0, minimum=0, min_width=120)
        seed = gr.Number(0, label="Seed of the study", info="Of prompts, images, sides", precision=0, minimum=0,
                         min_width=120)  # fmt: skip
    with gr.Accordion("Prompts of your own", open=False):
        prompts = gr.Textbox(
            label="Prompts to choose from", info="One a line; {} stands for the subject. Empty: the benchmark's",
            lines=3, max_lines=10,
        )  # fmt: skip
    name = gr.Textbox("study", label="Name of the study", info="Its file is NAME.sqlite", max_lines=1)
    with gr.Row():
        check = gr.Button("Check the study", min_width=150)
        create = gr.Button("Create the study", variant="primary", min_width=150)
    made, outlook = gr.HTML(), gr.HTML()
    form = [name, runs, methods, prompts, count, picking, candidates, shown, repeats, seed]
    return {
        "form": form, "runs": runs, "methods": methods, "check": check, "create": create, "made": made,
        "outlook": outlook,
    }  # fmt: skip


def connect(gr: Any, studio: Studio, parts: SimpleNamespace, show_table: Callable[[Studio], str]) -> None:
    """Checking and creating. parts: the form's, and `table` and `study` of the list, which `show_table` fills."""

    @answered(gr, studio, 1)
    def checked(*values: Any) -> tuple[Any, ...]:
        return "", show_plan(studies.prepare_study(read_form(*values), studio.workspace))

    @answered(gr, studio, 3)
    def created(*values: Any) -> tuple[Any, ...]:
        made = studies.create(read_form(*values), studio)
        text = message(f"{made.name} is in the queue: its images will be drawn.", "good")
        return text, "", show_table(studio), choose(gr, studies.study_names(studio), made.name)

    parts.check.click(checked, parts.form, [parts.made, parts.outlook], **ANY)
    parts.create.click(created, parts.form, [parts.made, parts.outlook, parts.table, parts.study], **ANY)


def read_form(
    name: str | None, runs: list[str] | None, methods: list[str] | None, prompts: str | None, count: float | None,
    picking: str | None, candidates: float | None, shown: float | None, repeats: float | None, seed: float | None,
) -> StudyRequest:  # fmt: skip
    """What the form asks for."""
    return StudyRequest(
        name or "", tuple(runs or ()), tuple(methods or ()), prompts or "", int(count or 0),
        1 if picking == _FIRST else int(candidates or 8), int(shown or 0), int(repeats or 0), int(seed or 0),
    )  # fmt: skip


def show_plan(prepared: studies.PreparedStudy) -> str:
    """What a study will be, as HTML."""
    plan = prepared.plan
    return render(
        "study_plan", plan=plan, shown=min(plan.shown, plan.pairs) or plan.pairs, time=duration(prepared.seconds),
        command=shlex.join(["lookforward", *prepared.words]),
    )  # fmt: skip
