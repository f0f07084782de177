"""The tab Subject: photos, their captions and masks, what the subject is, and consent."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lookforward.errors import LookforwardError
from lookforward.studio import masks, photos
from lookforward.studio.state import Studio
from lookforward.studio.subjects import CONSENT, add, forget, remember, remember_noun, show_photos, suggestion
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import message
from lookforward.studio.workspace import check_name

TITLE = "Subject"
_MASKS = (
    '<p class="lf-small">Paint over the subject, or upload a PNG that is white on it. Training then leaves out the '
    "rest.</p>"
)


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    parts = _lay_out(gr)
    _connect_subject(gr, studio, tab, page, parts)
    _connect_photo(gr, studio, parts)


def _lay_out(gr: Any) -> SimpleNamespace:
    with gr.Row(elem_classes="lf-line"):
        subject = gr.Dropdown([], label="Subject", info="A folder of photos", min_width=200)
        new = gr.Textbox(label="New subject", info="Letters and digits, such as my-dog", max_lines=1, min_width=160)
        create = gr.Button("Create", min_width=90, scale=0)
    said = gr.HTML()
    uploads = gr.File(label="Drop photos here: 4 to 6 of one subject", file_count="multiple", height=140)
    listed = gr.HTML()
    with gr.Row():
        noun = gr.Textbox(label="What is it?", info="One or two words, such as dog", max_lines=1, min_width=160)
        resolution = gr.Number(
            64, label="Resolution", info="Pixels, as in training", precision=0, minimum=32, min_width=120
        )
    buckets = gr.Checkbox(label="Show buckets: each photo in its own shape", info="In training: data.buckets = true")
    consent = gr.Checkbox(label=CONSENT, info="Without this, the studio does not train on the photos.")
    photo = gr.Dropdown([], label="Photo to edit")
    caption = gr.Textbox(
        label="Caption", info="What the photo shows; {} stands for the subject. Empty: no caption", max_lines=3
    )
    with gr.Row():
        suggest = gr.Button("Suggest a caption", min_width=130)
        save = gr.Button("Save caption", variant="primary", min_width=130)
        remove = gr.Button("Remove this photo", variant="stop", min_width=130)
    edited = gr.HTML()
    with gr.Accordion("Mask of this photo", open=False):
        gr.HTML(_MASKS)
        editor = gr.ImageEditor(
            label="Paint over the subject", type="numpy", sources=(), transforms=(), layers=False, height=420,
            brush=gr.Brush(default_size=24, colors=["#ff3b30"], default_color="#ff3b30"),
        )  # fmt: skip
        with gr.Row():
            paint = gr.Button("Use what is painted", min_width=130)
            mask_file = gr.UploadButton("Upload a mask (PNG)", file_types=[".png"], min_width=130)
            unmask = gr.Button("Remove the mask", min_width=130)
    return SimpleNamespace(
        subject=subject, new=new, create=create, said=said, uploads=uploads, listed=listed, noun=noun,
        resolution=resolution, buckets=buckets, consent=consent, photo=photo, caption=caption, suggest=suggest,
        save=save, remove=remove, editor=editor, edited=edited, paint=paint, mask_file=mask_file, unmask=unmask,
    )  # fmt: skip


def _connect_subject(gr: Any, studio: Studio, tab: Any, page: Any, parts: SimpleNamespace) -> None:
    """Choosing and making a subject, its photos, its words and consent."""
    seen = [parts.subject, parts.resolution, parts.buckets, parts.photo]
    photos_shown = [parts.listed, parts.photo]

    def listing(now: str | None) -> Any:
        return choose(gr, studio.workspace.subjects(), now)

    @answered(gr, studio, 4)
    def opened(*values: Any) -> tuple[Any, ...]:
        record = studio.store.subject(values[0] or "")
        return gr.skip(), *_shown(gr, studio, *values), record.class_noun, bool(record.consent)

    @answered(gr, studio, 2)
    def looked(*values: Any) -> tuple[Any, ...]:
        return gr.skip(), *_shown(gr, studio, *values)

    @answered(gr, studio, 2)
    def created(name: str | None) -> tuple[Any, ...]:
        made = check_name(name or "", "name of the subject")
        studio.workspace.subject(made).mkdir(parents=True, exist_ok=True)
        return message(f"{made} is there: drop its photos in."), choose(gr, studio.workspace.subjects(), made), ""

    @answered(gr, studio, 3)
    def dropped(files: list[str] | None, *values: Any) -> tuple[Any, ...]:
        return add(studio, values[0], files), *_shown(gr, studio, *values), None

    @answered(gr, studio, 0)
    def agreed(name: str | None, noun: str | None, yes: bool) -> str:
        return remember(studio, name, noun or "", yes)

    def named(name: str | None, noun: str | None) -> None:
        if name in studio.workspace.subjects():
            remember_noun(studio, name, noun or "")

    page.load(listing, parts.subject, parts.subject, **ANY)
    tab.select(listing, parts.subject, parts.subject, **ANY)
    parts.subject.change(opened, seen, [parts.said, *photos_shown, parts.noun, parts.consent], **ANY)
    gr.on([parts.resolution.blur, parts.buckets.input], looked, seen, [parts.said, *photos_shown], **ANY)
    gr.on([parts.create.click, parts.new.submit], created, parts.new, [parts.said, parts.subject, parts.new], **ANY)
    parts.uploads.upload(dropped, [parts.uploads, *seen], [parts.said, *photos_shown, parts.uploads], **ANY)
    words = [parts.subject, parts.noun]
    gr.on([parts.noun.blur, parts.noun.submit], named, words, None, **ANY)
    parts.consent.input(agreed, [*words, parts.consent], parts.said, **ANY)


def _connect_photo(gr: Any, studio: Studio, parts: SimpleNamespace) -> None:
    """Caption, mask and removal of one photo."""
    seen = [parts.subject, parts.resolution, parts.buckets, parts.photo]
    shown = [parts.edited, parts.listed, parts.photo]

    @answered(gr, studio, 2)
    def chosen(name: str | None, one: str | None) -> tuple[Any, ...]:
        if not name or not one:
            return gr.skip(), "", None
        folder = studio.workspace.subject(name)
        return gr.skip(), photos.read_caption(folder, one), masks.canvas(folder, one)

    @answered(gr, studio, 1)
    def suggested(name: str | None, one: str | None, noun: str | None) -> tuple[Any, ...]:
        return message("A suggestion: change it as you like, then save it."), suggestion(studio, name, one, noun or "")

    def edit(change: Callable[[Path, str, Any], str]) -> Any:
        @answered(gr, studio, 2)
        def edited(value: Any, *values: Any) -> tuple[Any, ...]:
            name, one = values[0], values[3]
            if not name or not one:
                raise LookforwardError("Choose a photo to edit first.", "photo-missing")
            text = change(studio.workspace.subject(name), one, value)
            return message(text, "good"), *_shown(gr, studio, *values)

        return edited

    parts.photo.change(chosen, [parts.subject, parts.photo], [parts.edited, parts.caption, parts.editor], **ANY)
    parts.suggest.click(suggested, [parts.subject, parts.photo, parts.noun], [parts.edited, parts.caption], **ANY)
    parts.save.click(edit(_save_caption), [parts.caption, *seen], shown, **ANY)
    parts.remove.click(edit(_remove), [parts.caption, *seen], shown, **ANY)
    parts.paint.click(edit(_paint), [parts.editor, *seen], shown, **ANY)
    parts.mask_file.upload(edit(_upload_mask), [parts.mask_file, *seen], shown, **ANY)
    parts.unmask.click(edit(_unmask), [parts.caption, *seen], shown, **ANY)


def _shown(gr: Any, studio: Studio, name: str | None, side: float, shapes: bool, one: str | None) -> tuple[Any, Any]:
    html, names = show_photos(studio, name, side, shapes)
    return html, choose(gr, names, one)


def _save_caption(folder: Path, one: str, text: str) -> str:
    photos.set_caption(folder, one, text)
    return f"The caption of {one} is saved." if text.strip() else f"{one} has no caption now."


def _remove(folder: Path, one: str, _: Any) -> str:
    photos.remove_photo(folder, one)
    return f"{one} is removed."


def _paint(folder: Path, one: str, value: Any) -> str:
    masks.painted_mask(folder, one, (value or {}).get("layers") or [])
    return f"The mask of {one} is saved."


def _upload_mask(folder: Path, one: str, value: str) -> str:
    try:
        masks.upload_mask(folder, one, Path(value))
    finally:
        forget([Path(value)])
    return f"The mask of {one} is saved."


def _unmask(folder: Path, one: str, _: Any) -> str:
    masks.set_mask(folder, one, None)
    return f"{one} has no mask now."
