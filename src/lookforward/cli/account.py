"""What a run is trained on, for the terminal: every photo with its prompt and its mask."""

from collections.abc import Callable, Iterator
from typing import Any

from lookforward.data.folder import count_of, list_names
from lookforward.data.views import all_prompts_of
from lookforward.texts import MOST_OF_NOTE, visible

_LISTED = 20  # photos


def commented(print_line: Callable[[str], None]) -> Callable[[str], None]:
    """Prints lines as comments of TOML."""
    return lambda text: print_line("\n".join(f"# {line}".rstrip() for line in text.split("\n")))


def account(subject: Any) -> Iterator[str]:
    """Lines on the photos, captions and masks that are used of each subject, what is left out, and the prompts."""
    for line in _account(subject):
        yield visible(line, MOST_OF_NOTE)


def _account(subject: Any) -> Iterator[str]:
    for one in subject.together:
        yield f"{one.summary}."
        captions = sum(bool(photo.caption) for photo in one.photos)
        if captions or any(photo.masks for photo in one.photos):
            yield from (_line(one, photo) for photo in one.photos[:_LISTED])
            if len(one.photos) > _LISTED:
                yield f"  and {count_of(len(one.photos) - _LISTED, 'more photo')}"
        else:
            yield f"  {list_names([photo.path.name for photo in one.photos])}"
        own = f", and {count_of(captions, 'caption')} in its place" if captions else ""
        yield f"Training prompt: {one.prompt!r}{own}. Class prompt: {one.class_prompt!r}."


def _line(subject: Any, photo: Any) -> str:
    """A photo, the prompts that it is trained with, and its mask."""
    prompts = " or ".join(repr(prompt) for prompt, _ in all_prompts_of(subject, photo))
    mask = photo.mask_file.name if photo.mask_file else "its transparency" if photo.masks else ""
    return f"  {photo.path.name}: {prompts}{f', mask {mask}' if mask else ''}"
