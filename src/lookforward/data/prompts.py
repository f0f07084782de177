"""Prompt templates, their sets, and prompt files.

A template names its subject by the placeholders `{identifier}` and `{class_noun}`.
The object and live prompts are those of the DreamBooth benchmark (Ruiz et al., 2023; data set CC BY 4.0).
"""

import re
from collections.abc import Callable
from pathlib import Path

from lookforward.errors import LookforwardError
from lookforward.records import read_bytes

_SHARED_TEN = (
    "a {identifier} {class_noun} in the jungle",
    "a {identifier} {class_noun} in the snow",
    "a {identifier} {class_noun} on the beach",
    "a {identifier} {class_noun} on a cobblestone street",
    "a {identifier} {class_noun} on top of pink fabric",
    "a {identifier} {class_noun} on top of a wooden floor",
    "a {identifier} {class_noun} with a city in the background",
    "a {identifier} {class_noun} with a mountain in the background",
    "a {identifier} {class_noun} with a blue house in the background",
    "a {identifier} {class_noun} on top of a purple rug in a forest",
)
_SHARED_FIVE = (
    "a red {identifier} {class_noun}",
    "a purple {identifier} {class_noun}",
    "a shiny {identifier} {class_noun}",
    "a wet {identifier} {class_noun}",
    "a cube shaped {identifier} {class_noun}",
)

OBJECT_PROMPTS = (
    *_SHARED_TEN,
    "a {identifier} {class_noun} with a wheat field in the background",
    "a {identifier} {class_noun} with a tree and autumn leaves in the background",
    "a {identifier} {class_noun} with the Eiffel Tower in the background",
    "a {identifier} {class_noun} floating on top of water",
    "a {identifier} {class_noun} floating in an ocean of milk",
    "a {identifier} {class_noun} on top of green grass with sunflowers around it",
    "a {identifier} {class_noun} on top of a mirror",
    "a {identifier} {class_noun} on top of the sidewalk in a crowded street",
    "a {identifier} {class_noun} on top of a dirt road",
    "a {identifier} {class_noun} on top of a white rug",
    *_SHARED_FIVE,
)

LIVE_PROMPTS = (
    *_SHARED_TEN,
    "a {identifier} {class_noun} wearing a red hat",
    "a {identifier} {class_noun} wearing a santa hat",
    "a {identifier} {class_noun} wearing a rainbow scarf",
    "a {identifier} {class_noun} wearing a black top hat and a monocle",
    "a {identifier} {class_noun} in a chef outfit",
    "a {identifier} {class_noun} in a firefighter outfit",
    "a {identifier} {class_noun} in a police outfit",
    "a {identifier} {class_noun} wearing pink glasses",
    "a {identifier} {class_noun} wearing a yellow shirt",
    "a {identifier} {class_noun} in a purple wizard outfit",
    *_SHARED_FIVE,
)

LIVE_CLASSES = frozenset({"cat", "dog"})

# Endings of the prompts that a run draws samples of; the seed of each is its index
SAMPLE_SCENES = ("", " on the beach", " in the snow", " in the jungle")

Tokenize = Callable[[str], list[int]]
# Endings of the prompts that a run is measured by while it trains: none is a prompt of the benchmark, so that choosing
# a step by them is not choosing by the benchmark
VALIDATION_SCENES = (
    "in a kitchen",
    "on a rock by a lake",
    "in a field of tulips",
    "in front of a brick wall",
    "on a park bench",
    "on a city rooftop at night",
    "on a sofa in a living room",
    "at the edge of a desert",
)
VALIDATION_OUTFITS = ("wearing a blue scarf", "wearing a straw hat")

_PLACEHOLDER = re.compile(r"\{(identifier|class_noun)\}")


def benchmark_prompts(class_noun: str) -> tuple[str, ...]:
    """The DreamBooth benchmark's 25 templates for a subject of this class: live for cats and dogs."""
    return LIVE_PROMPTS if class_noun in LIVE_CLASSES else OBJECT_PROMPTS


def fill(template: str, identifier: str, class_noun: str) -> str:
    """Put the subject into a template; runs of whitespace become one space.

    An empty identifier gives the class prompt: "a {identifier} {class_noun}" becomes "a dog".
    """
    words = {"identifier": identifier, "class_noun": class_noun}
    # One pass, so that braces in a class noun are not taken for placeholders.
    return _collapse(_PLACEHOLDER.sub(lambda match: words[match[1]], template))


def without_identifier(prompt: str, identifier: str, instead: str = "") -> str:
    """Remove the identifier from a prompt, since CLIP never learned what "sks" is.

    Removes every whole-word occurrence, in either case (CLIP reads lower case). If the template is at hand,
    `fill(template, "", class_noun)` is exact even for an identifier that is also a common word.

    instead: words to put in its place.
    """
    if not identifier.split():
        return _collapse(prompt)
    return _collapse(_whole(identifier).sub(lambda _: instead or " ", prompt))


def spelled(prompt: str, identifier: str) -> str:
    """The prompt with every whole-word occurrence of the identifier as it is written itself: <SKS> becomes <sks>."""
    return _whole(identifier).sub(lambda _: identifier, prompt)


def names_subject(tokenize: Tokenize, prompt: str, identifier: str, room: int) -> bool:
    """Whether a text encoder reads the identifier, as a word of its own, among the first `room` tokens of a prompt.

    tokenize: gives token ids without start, end and padding.
    """
    alone, behind = tokenize(identifier), tokenize(f"a {identifier}")[len(tokenize("a")) :]
    for found in _whole(identifier).finditer(prompt):
        read = tokenize(prompt[: found.end()])
        if len(read) <= room and any(ids and read[-len(ids) :] == ids for ids in (alone, behind)):
            return True
    return False


def overlap(tokenize: Tokenize, first: str, second: str) -> bool:
    """Whether the tokens of one of two texts contain those of the other, so that a model cannot tell them apart."""
    a, b = sorted((tokenize(first), tokenize(second)), key=len)
    return bool(a) and any(b[i : i + len(a)] == a for i in range(len(b) - len(a) + 1))


def cut_note(tokenize: Tokenize, what: str, text: str, room: int) -> tuple[str, ...]:
    """A note if a text has more tokens than the encoder reads. what: how the note calls it."""
    count = len(tokenize(text))
    return (f"{what} has {count} tokens; the model reads the first {room}",) if count > room else ()


def clip_text(template: str, identifier: str, class_noun: str, keep_identifier: bool = False) -> str:
    """What CLIP-T compares an image with: the prompt without the identifier, also where it is written out."""
    if keep_identifier:
        return fill(template, identifier, class_noun)
    text = fill(template, "", class_noun)
    plain = without_identifier(text, identifier)
    if plain == text or class_noun.casefold() in plain.casefold():
        return plain
    return without_identifier(text, identifier, class_noun)  # a learned word that stands for the whole subject


def _whole(identifier: str) -> re.Pattern[str]:
    # Not \b, which finds no boundary beside the brackets of an identifier such as <sks>
    words = r"\s+".join(re.escape(word) for word in identifier.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def read_prompt_file(path: Path) -> list[str]:
    """Read templates for `fill`, one a line; skips empty lines and lines that start with #.

    `{}` stands for the whole subject, "{identifier} {class_noun}"; a line without placeholders is a plain prompt.

    Raises:
        LookforwardError: the file cannot be read, is not UTF-8 text, has no prompt, or has another placeholder.
    """
    templates: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        template = _collapse(line).replace("{}", "{identifier} {class_noun}")
        if not template or template.startswith("#"):
            continue
        if re.search(r"[{}]", _PLACEHOLDER.sub("", template)):
            raise LookforwardError(
                f"{path}, line {number}, has an unknown placeholder: {_collapse(line)!r}. Use {{identifier}} and "
                "{class_noun}, or {} for both.",
                "prompt-placeholder",
            )
        templates.append(template)
    if not templates:
        raise LookforwardError(f"{path} has no prompts: write one per line.", "prompts-empty")
    return templates


def read_prompts_and_classes(path: Path) -> dict[str, str]:
    """The class noun of each subject, from the DreamBooth data set's `prompts_and_classes.txt`, in the file's order.

    Reads the class table only: the prompts of the file are `OBJECT_PROMPTS` and `LIVE_PROMPTS`.

    Raises:
        LookforwardError: the file cannot be read or has no class table.
    """
    classes: dict[str, str] = {}
    in_table = False
    for line in read_text(path).splitlines():
        subject, comma, class_noun = (part.strip() for part in line.partition(","))
        if (subject, class_noun) == ("subject_name", "class"):
            in_table = True
        elif in_table and not comma and subject:  # the next heading ends the table
            break
        elif in_table and comma:
            classes[subject] = class_noun
    if not classes:
        raise LookforwardError(
            f"{path} has no table of subjects, which begins with the line 'subject_name,class': use "
            "prompts_and_classes.txt of the DreamBooth data set.",
            "dataset-classes",
        )
    return classes


def _collapse(text: str) -> str:
    return " ".join(text.split())


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises LookforwardError where it is none, or cannot be read."""
    try:
        text = read_bytes(path).decode("utf-8-sig")  # editors on Windows begin the file with a mark
        if "\0" in text:  # UTF-16 without its mark decodes too, as letters between zeros
            raise UnicodeError
    except UnicodeError as error:
        raise LookforwardError(f"{path} is not UTF-8 text: save it as UTF-8.", "file-encoding") from error
    return text
