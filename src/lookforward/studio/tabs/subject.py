"""The tab Subject: photos, their captions and masks, what the subject is, and consent."""

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lookforward.errors import LookforwardError
from lookforward.studio import photos
from lookforward.studio.app import Studio
from lookforward.studio.tabs.common import ANY, answered, choose
from lookforward.studio.text import message, render
from lookforward.studio.workspace import check_name

TITLE = "Subject"
CONSENT = "I may use these photos to train a model. Any person who can be recognised in them has agreed."
_NEW = "Name a new subject, or choose one."


def build(gr: Any, studio: Studio, tab: Any, page: Any) -> None:
    """Put the components of the tab into the open context, and connect them."""
    with gr.Row():
        subject = gr.Dropdown([], label="Subject", info="A folder of photos", min_width=220)
        new = gr.Textbox(label="New subject", info="Letters and digits, such as my-dog", max_lines=1, min_width=180)
        create = gr.Button("Create", min_width=90, scale=0)
    said = gr.HTML()
    uploads = gr.File(label="Drop photos here: 4 to 6 of one subject", file_count="multiple", height=140)
    listed = gr.HTML()
    with gr.Row():
        noun = gr.Textbox(label="What is it?", info="One or two words, such as dog", max_lines=1, min_width=200)
        resolution = gr.Number(64, label="Resolution", info="Pixels, as in training", precision=0, minimum=32)
        buckets = gr.Checkbox(label="Keep each photo's shape (buckets)", info="In training: data.buckets = true")
    consent = gr.Checkbox(label=CONSENT, info="Without this, the studio does not train on the photos.")
    with gr.Group():
        photo = gr.Dropdown([], label="Photo to edit")
        caption = gr.Textbox(
            label="Caption", info="What the photo shows; {} stands for the subject. Empty: no caption", max_lines=3
        )
        with gr.Row():
            suggest = gr.Button("Suggest a caption", min_width=140)
            save = gr.Button("Save caption", variant="primary", min_width=140)
            remove = gr.Button("Remove this photo", variant="stop", min_width=140)
    with gr.Accordion("Mask of this photo", open=False):
        gr.HTML('<p class="lf-small">Paint over the subject, or upload a PNG that is white on it. The loss then '
                "leaves out the rest.</p>")  # fmt: skip
        editor = gr.ImageEditor(
            label="Paint over the subject", type="numpy", sources=(), transforms=(), layers=False, height=420,
            brush=gr.Brush(default_size=24, colors=["#ff3b30"], default_color="#ff3b30"),
        )  # fmt: skip
        with gr.Row():
            paint = gr.Button("Use what is painted", min_width=140)
            mask_file = gr.UploadButton("Upload a mask (PNG)", file_types=[".png"], min_width=140)
            unmask = gr.Button("Remove the mask", min_width=140)

    shown = [said, listed, photo]
    seen = [subject, resolution, buckets, photo]

    def refreshed(name: str | None, side: float, shapes: bool, chosen: str | None, text: str = "") -> tuple[Any, ...]:
        return text, *show_photos(gr, studio, name, side, shapes, chosen)

    @answered(gr, 5)
    def opened(name: str | None, side: float, shapes: bool, chosen: str | None) -> tuple[Any, ...]:
        record = studio.store.subject(name) if name else studio.store.subject("")
        shows = refreshed(name, side, shapes, chosen)
        return *shows, record.class_noun, bool(record.consent), gr.update(interactive=bool(name))

    def listing(now: str | None) -> Any:
        return choose(gr, studio.workspace.subjects(), now)

    @answered(gr, 2)
    def created(name: str) -> tuple[Any, ...]:
        made = check_name(name, "name of the subject")
        studio.workspace.subject(made).mkdir(parents=True, exist_ok=True)
        return message(f"{made} is there: drop its photos in."), choose(gr, studio.workspace.subjects(), made), ""

    @answered(gr, 3)
    def dropped(files: list[str] | None, *values: Any) -> tuple[Any, ...]:
        name, paths = values[0], [Path(file) for file in files or ()]
        if not name:
            raise LookforwardError(_NEW, "subject-missing")
        added, refused = photos.add_photos(studio.workspace.subject(name), paths)
        _forget(paths)
        text = message(f"Added {len(added)} photo{'' if len(added) == 1 else 's'}.", "good") if added else ""
        text += "".join(message(problem, "error") for problem in refused[:20])
        return *refreshed(*values, text), None

    @answered(gr, 0)
    def known(name: str | None, noun: str, agreed: bool) -> str:
        if not name:
            return message(_NEW)
        before = studio.store.subject(name)
        studio.workspace.subject(name)
        studio.store.set_subject(name, " ".join(noun.split())[:80], CONSENT if agreed else "")
        changed = bool(before.consent) != agreed
        return message("Consent is recorded with its date." if agreed else "Consent is withdrawn.") if changed else ""

    @answered(gr, 2)
    def chosen(name: str | None, one: str | None) -> tuple[Any, ...]:
        if not name or not one:
            return "", "", None
        folder = studio.workspace.subject(name)
        text = next((view.caption for view in photos.look(folder, 64).photos if view.name == one), "")
        return "", text, photos.canvas(folder, one)

    @answered(gr, 1)
    def suggested(name: str | None, one: str | None, noun: str) -> tuple[Any, ...]:
        return message("A suggestion: change it as you like, then save it."), suggestion(studio, name, one, noun)

    def edit(change: Any) -> Any:
        @answered(gr, 2)
        def edited(value: Any, *values: Any) -> tuple[Any, ...]:
            name, one = values[0], values[3]
            if not name or not one:
                raise LookforwardError("Choose a photo to edit first.", "photo-missing")
            text = change(studio.workspace.subject(name), one, value)
            return refreshed(*values, message(text, "good"))

        return edited

    page.load(listing, subject, subject, **ANY)
    tab.select(listing, subject, subject, **ANY)
    gr.on([subject.change, resolution.blur, buckets.change], opened, seen, [*shown, noun, consent, uploads], **ANY)
    gr.on([create.click, new.submit], created, new, [said, subject, new], **ANY)
    uploads.upload(dropped, [uploads, *seen], [*shown, uploads], **ANY)
    gr.on([noun.blur, noun.submit, consent.input], known, [subject, noun, consent], said, **ANY)
    photo.change(chosen, [subject, photo], [said, caption, editor], **ANY)
    suggest.click(suggested, [subject, photo, noun], [said, caption], **ANY)
    save.click(edit(_save_caption), [caption, *seen], shown, **ANY)
    remove.click(edit(_remove), [caption, *seen], shown, **ANY)
    paint.click(edit(_paint), [editor, *seen], shown, **ANY)
    mask_file.upload(edit(_upload_mask), [mask_file, *seen], shown, **ANY)
    unmask.click(edit(_unmask), [caption, *seen], shown, **ANY)


def show_photos(
    gr: Any, studio: Studio, name: str | None, side: float, shapes: bool, chosen: str | None
) -> tuple[Any, Any]:
    """The list of photos as HTML, and an update of the photo to edit."""
    if not name:
        return render("photos", look=photos.Look((), ()), pictures=[]), choose(gr, [], None)
    found = photos.look(studio.workspace.subject(name), int(max(32, min(side or 64, 4096))), buckets=shapes)
    pictures = [_data_uri(one.picture) for one in found.photos]
    return render("photos", look=found, pictures=pictures), choose(gr, [one.name for one in found.photos], chosen)


def suggestion(studio: Studio, name: str | None, one: str | None, noun: str) -> str:
    """A caption by CLIP, which recognises the place, as `data.describe` does.

    Raises:
        LookforwardError: nothing is chosen, the photo cannot be used, or CLIP cannot be loaded.
    """
    from lookforward.assembly.describe import describe
    from lookforward.config.recipe import load_settings
    from lookforward.data.subject import load_subject

    if not name or not one:
        raise LookforwardError("Choose a photo first.", "photo-missing")
    settings = load_settings("best", {"model.name": studio.workspace.models[0]})
    path = photos.find_photo(studio.workspace.subject(name), one)
    resolution = settings.data.resolution
    subject = load_subject([path], class_noun=noun, resolution=resolution, allow_few=True, captions=False)
    place = describe(subject, settings, "cpu").photos[0].place
    return f"a photo of {{}} {place}".strip()


def _save_caption(folder: Path, one: str, text: str) -> str:
    photos.set_caption(folder, one, text)
    return f"The caption of {one} is saved." if text.strip() else f"{one} has no caption now."


def _remove(folder: Path, one: str, _: Any) -> str:
    photos.remove_photo(folder, one)
    return f"{one} is removed."


def _paint(folder: Path, one: str, value: Any) -> str:
    photos.painted_mask(folder, one, (value or {}).get("layers") or [])
    return f"The mask of {one} is saved."


def _upload_mask(folder: Path, one: str, value: str) -> str:
    try:
        photos.upload_mask(folder, one, Path(value))
    finally:
        _forget([Path(value)])
    return f"The mask of {one} is saved."


def _unmask(folder: Path, one: str, _: Any) -> str:
    photos.set_mask(folder, one, None)
    return f"{one} has no mask now."


def _forget(paths: Sequence[Path]) -> None:
    """Delete uploads that have been taken over."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _data_uri(picture: Any) -> str:
    if picture is None:
        return ""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
