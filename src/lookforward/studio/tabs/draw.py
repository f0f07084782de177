"""The tab Draw: grids of images over two variables, and the settings of an image that is dropped in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from lookforward.errors import LookforwardError
from lookforward.exports.png import PngMetadata, read_metadata
from lookforward.runs.folder import open_run
from lookforward.studio.drawing import VARIABLES, Grid, GridRequest, draw_grid, numbers, sources
from lookforward.studio.state import Studio
from lookforward.studio.tabs.common import ANY, answered
from lookforward.studio.text import message, render
from lookforward.studio.watching import list_exports

TITLE = "Draw"
_SAMPLERS = ("ddim", "ddpm", "dpm++", "euler", "unipc")
_WATERMARK = "Invisible watermark"
_WHAT_FOR = "From 256 pixels: shows that an image is generated, even without its metadata; it says nothing of you"
_ELSEWHERE = "Its settings are in the form. What drew it is not in this folder: choose a run or a model."
_LARGEST = 100 * 2**20  # bytes of an image that is read back


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    names = [(label, name) for name, label in VARIABLES.items()]
    source = gr.Dropdown([], multiselect=True, label="Runs and steps", info="Several are drawn from the same noise")
    prompts = gr.Textbox(
        "a photo of {} on the beach",
        label="Prompts",
        info="One a line; {} stands for the subject",
        lines=2,
        max_lines=8,
    )
    with gr.Row():
        rows = gr.Dropdown(names, value="prompt", label="Rows", min_width=140)
        columns = gr.Dropdown(names, value="source", label="Columns", min_width=140)
        seeds = gr.Textbox("0", label="Seeds", info="Such as 0-3 or 1, 5", max_lines=1, min_width=140)
    with gr.Accordion("Sampler", open=False):
        with gr.Row():
            guidance = gr.Textbox(label="Guidance", info="Empty: the run's own", max_lines=1, min_width=140)
            steps = gr.Textbox(label="Sampler steps", info="Empty: the run's own", max_lines=1, min_width=140)
            scheduler = gr.Dropdown(list(_SAMPLERS), multiselect=True, label="Sampler", info="Empty: the model's own")
            size = gr.Number(0, label="Size", info="Pixels; 0: the run's own", precision=0, minimum=0, min_width=120)
        negative = gr.Textbox(label="Negative prompt", info="Needs guidance above 1", max_lines=2)
    watermark = gr.Checkbox(True, label=_WATERMARK, info=_WHAT_FOR)
    with gr.Row():
        draw = gr.Button("Draw", variant="primary", min_width=150)
        stop = gr.Button("Stop", variant="stop", min_width=110, scale=0)
    said, shown = gr.HTML(), gr.HTML()
    dropped = gr.File(label="Drop an image of lookforward here to get its settings back", height=120)
    settings = gr.HTML()
    form = [source, prompts, seeds, guidance, steps, scheduler, negative, size, rows, columns, watermark]

    parts = SimpleNamespace(
        form=form, source=source, draw=draw, stop=stop, said=said, shown=shown, dropped=dropped,
        filled=[settings, source, prompts, seeds, guidance, steps, scheduler, negative, size],
    )  # fmt: skip
    _connect(gr, studio, tab, page, parts)


def _connect(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    def listing(now: list[str] | None) -> Any:
        found = list_sources(studio)
        kept = [one for one in now or () if one in found.values()]
        return gr.update(choices=list(found.items()), value=kept or list(found.values())[:1])

    def drawn(*values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield message("Loading the model …"), gr.skip()
            for grid in draw_grid(read_form(*values), studio.workspace):
                yield message("Done.", "good") if grid.sheet[1] else message("Drawing …"), show_grid(grid)
        except LookforwardError as error:
            yield message(studio.workspace.relative(str(error)), "error"), gr.skip()

    @answered(gr, studio, 9)
    def read(file: str | None) -> tuple[Any, ...]:
        if not file:
            return (gr.skip(),) * 10
        found = read_back(Path(file))
        known = list_sources(studio)
        drawer = source_of(found, list(known.values()))
        sampler = [found.scheduler] if found.scheduler in _SAMPLERS else []
        return (
            message("Its settings are in the form." if drawer else _ELSEWHERE, "good"), show_settings(found),
            gr.update(choices=list(known.items()), value=[drawer]) if drawer else gr.skip(), found.prompt,
            str(found.seed), f"{found.guidance:g}", str(found.steps), sampler, found.negative, found.size,
        )  # fmt: skip

    for event in (page.load, tab.select):
        event(listing, parts.source, parts.source, **ANY)
    drawing = parts.draw.click(drawn, parts.form, [parts.said, parts.shown], **ANY)
    stopped = message("Stopped. What is drawn is kept.")
    parts.stop.click(lambda: stopped, None, parts.said, cancels=[drawing], **ANY)
    parts.dropped.upload(read, parts.dropped, [parts.said, *parts.filled], **ANY)


def read_back(path: Path) -> PngMetadata:
    """How an uploaded image was drawn. The upload is deleted.

    Raises:
        LookforwardError: it is not an image of lookforward, or is too large for one.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise LookforwardError("That file is too large for an image of lookforward.", "png-metadata")
        return read_metadata(path)
    except LookforwardError as error:
        raise LookforwardError(str(error).replace(str(path), path.name), error.code) from error
    finally:
        path.unlink(missing_ok=True)


def source_of(found: PngMetadata, sources: Sequence[str]) -> str:
    """Which of the studio's sources drew an image, by the names that it records; "" if none did."""
    for one in sources:
        names = (one.replace("/exports/", "-"),) if found.run else (one, Path(one).name)
        if (found.run or found.model) in names:
            return one
    return ""


def show_settings(found: PngMetadata) -> str:
    """The settings of an image as HTML."""
    values = {
        "prompt": found.prompt, "seed": found.seed, "sampler steps": found.steps, "guidance": f"{found.guidance:g}",
        "sampler": found.scheduler, "size": found.size, "negative prompt": found.negative, "model": found.model,
        "model hash": found.model_hash, "adapters": ", ".join(str(one.get("name", "")) for one in found.adapters),
        "watermark": "yes" if found.watermark else "no",
    }  # fmt: skip
    return render("settings", values={name: value for name, value in values.items() if value != ""})


def list_sources(studio: Studio) -> dict[str, str]:
    """What can be drawn with, by label: the exports of each run, the picked one first, and the untouched models."""
    exports = {}
    for name in studio.workspace.run_names():
        try:
            found = list_exports(open_run(studio.workspace.run(name)))
        except LookforwardError:
            continue
        picked = studio.store.picked(name)
        exports[name] = sorted(found, key=lambda one: one[0] != picked)
    return sources(studio.workspace, exports)


def read_form(
    source: list[str] | None, prompts: str, seeds: str, guidance: str, steps: str, scheduler: list[str] | None,
    negative: str, size: float, rows: str, columns: str, watermark: bool = True,
) -> GridRequest:  # fmt: skip
    """What the form asks for. Raises LookforwardError for a number that is none."""
    return GridRequest(
        tuple(source or ()),
        tuple(dict.fromkeys(line.strip() for line in (prompts or "").splitlines() if line.strip())),
        numbers(seeds or "0", int, "Seeds") or (0,),
        numbers(guidance or "", float, "Guidance"),
        numbers(steps or "", int, "Sampler steps"),
        tuple(scheduler or ()),
        negative or "",
        int(size or 0),
        rows,
        columns,
        bool(watermark),
    )


def show_grid(grid: Grid) -> str:
    """A grid as HTML; what is not drawn yet has an empty place."""
    cells = {cell.place: cell for cell in grid.cells}
    return render("grid", grid=grid, cells=cells, url=lambda run, file: f"/picture/{quote(run)}/images/{quote(file)}")
