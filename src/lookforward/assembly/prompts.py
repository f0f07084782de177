"""Prepare prompts for sampling: fill in the subject, and note what the model will not read."""

from collections.abc import Mapping, Sequence
from typing import Any

from lookforward.data.prompts import Tokenize, cut_note, fill, names_subject
from lookforward.data.subjects import other_subjects
from lookforward.errors import LookforwardError
from lookforward.models.families import family_of

_SHOWN = 40  # letters of a prompt in a note


def fill_prompt(prompt: str, manifest: Mapping[str, Any]) -> str:
    """The subject of an export in the place of {}, {identifier} and {class_noun}; other braces stay.

    Raises:
        LookforwardError: there is one of them, and the model has no subject.
    """
    template = prompt.replace("{}", "{identifier} {class_noun}")
    if "{identifier}" not in template and "{class_noun}" not in template:
        return prompt
    if not manifest["identifier"]:
        raise LookforwardError(
            f"{prompt!r} has a placeholder for the subject, but a base model has no subject: write out the prompt.",
            code="no-subject",
        )
    return fill(template, manifest["identifier"], manifest["class_noun"] if manifest["noun_in_prompt"] else "")


def prompt_notes(
    pipeline: Any, manifest: Mapping[str, Any], prompts: Sequence[str], negative: str = ""
) -> tuple[str, ...]:
    """Notes on prompts that are cut or do not name the subject, and on a negative prompt that is cut or names it.

    manifest: of the export that is drawn with.
    """
    tokenizer, room = family_of(pipeline).prompt_tokenizer(pipeline)
    tokenize = tokenizer_of(pipeline, tokenizer)
    notes = [note for one in prompts for note in cut_note(tokenize, _short(one), one, room)]
    if negative:
        notes += cut_note(tokenize, f"the negative prompt {_short(negative)}", negative, room)
    named = [manifest["identifier"], *(other for other, _ in other_subjects(manifest.get("others", "")))]
    if not named[0]:
        return tuple(notes)
    without = [one for one in prompts if not any(names_subject(tokenize, one, word, room) for word in named)]
    if without:
        which = "the prompt does" if len(prompts) == 1 else f"{len(without)} of {len(prompts)} prompts do"
        notes.append(f"{which} not hold {named[0]!r}, so the images may not show your subject.")
    for word in named:
        if negative and names_subject(tokenize, negative, word, room):
            notes.append(f"the negative prompt names {word!r}, so that images are led away from your subject")
    return tuple(notes)


def tokenizer_of(pipeline: Any, tokenizer: Any) -> Tokenize:
    """Text to token ids without start and end; a learned word of several vectors counts as so many."""
    convert = getattr(pipeline, "maybe_convert_prompt", None)

    def tokenize(text: str) -> list[int]:
        return tokenizer(convert(text, tokenizer) if convert else text, add_special_tokens=False).input_ids

    return tokenize


def _short(text: str) -> str:
    return f"{text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"
