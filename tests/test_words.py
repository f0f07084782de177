"""Who is the subject: prompts, identifiers and class nouns, on the tokens that a model reads."""

import pytest

from lookforward.data.prompts import clip_text, cut_note, names_subject, overlap, spelled


def letters(text: str) -> list[int]:
    """A tokenizer of words, in lower case, whose unknown words end in a known one, as byte pairs do."""
    known = {"a": 1, "photo": 2, "of": 3, "sks": 4, "dog": 5, "hot": 6, "row": 7}
    ids: list[int] = []
    for word in text.lower().split():
        ids += [known[word]] if word in known else [9, 4] if word.endswith("sks") else [9]
    return ids


@pytest.mark.parametrize(
    ("prompt", "room", "named"),
    [
        ("a photo of sks dog", 5, True),
        ("a photo of SKS dog", 5, True),
        ("a photo of sks dog", 3, False),  # cut off
        ("a row of desks", 9, False),  # whose last piece has the identifier's token
        ("a photo of dog", 9, False),
    ],
)
def test_who_is_the_subject(prompt: str, room: int, named: bool) -> None:
    assert names_subject(letters, prompt, "sks", room) is named


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [("sks", "dog", False), ("hot", "hot dog", True), ("a photo of dog", "dog", True), ("sks dog", "SKS", True)],
)
def test_words_that_contain_one_another(first: str, second: str, both: bool) -> None:
    assert overlap(letters, first, second) is both


def test_the_identifier_in_any_case_is_written_in_its_own() -> None:
    assert spelled("a photo of <SKS> beside desks", "<sks>") == "a photo of <sks> beside desks"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a photo of {identifier} {class_noun} in the snow", "a photo of dog in the snow"),
        ("a photo of sks dog in the snow", "a photo of dog in the snow"),
        ("a photo of SKS in the snow", "a photo of dog in the snow"),
        ("desks in the snow", "desks in the snow"),
    ],
)
def test_clip_sees_no_identifier_however_it_is_written(template: str, text: str) -> None:
    assert clip_text(template, "sks", "dog") == text


def test_clip_may_see_it() -> None:
    assert clip_text("{identifier} {class_noun}", "sks", "dog", keep_identifier=True) == "sks dog"


def test_texts_that_are_cut() -> None:
    (note,) = cut_note(letters, "the negative prompt", "a photo of dog", 3)
    assert all(fact in note for fact in ("negative prompt", "4 tokens", "3"))
    assert cut_note(letters, "it", "a photo", 2) == ()
