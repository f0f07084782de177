"""Whether the words of a run say that its photos show a person, or something private."""

import re
from collections.abc import Iterable

from lookforward.data.subject import Subject

# Class nouns of people, singular; a plural in -s is known too
PEOPLE = frozenset((
    "person", "people", "human", "individual", "adult", "man", "men", "woman", "women", "guy", "lad", "lady",
    "gentleman", "gentlemen", "male", "female", "boy", "girl", "child", "children", "kid", "baby", "babies", "infant",
    "toddler", "teen", "teenager", "youth", "senior", "couple", "family", "families", "crowd", "face", "portrait",
    "selfie", "mother", "mom", "mum", "mama", "father", "dad", "papa", "parent", "sister", "brother", "sibling",
    "twin", "son", "daughter", "wife", "wives", "husband", "spouse", "partner", "girlfriend", "boyfriend", "friend",
    "neighbour", "neighbor", "colleague", "aunt", "uncle", "cousin", "niece", "nephew", "grandmother", "grandma",
    "granny", "grandfather", "grandpa", "grandparent", "grandchild", "grandson", "granddaughter", "bride", "groom",
    "fiance", "fiancee", "widow", "widower", "actor", "actress", "celebrity", "singer", "musician", "dancer",
    "artist", "author", "writer", "painter", "athlete", "player", "footballer", "wrestler", "politician", "president",
    "minister", "senator", "king", "queen", "prince", "princess", "doctor", "nurse", "teacher", "student", "pupil",
    "soldier", "police", "policeman", "policewoman", "officer", "fireman", "firefighter", "farmer", "worker",
    "scientist", "professor", "lawyer", "judge", "engineer", "chef", "priest", "monk", "nun", "influencer",
    "streamer", "youtuber",
))  # fmt: skip
_IN_CAPTIONS = re.compile(r"\bfaces?\b|\bmy\s+\w+", re.IGNORECASE)


def signs_of_people(subject: Subject) -> tuple[str, ...]:
    """What says so, in words, of all subjects of a run: a class noun of people, "face" or "my …" in a caption."""
    found = []
    for one in subject.together:
        if names_people(one.class_noun):
            found.append(f"the class noun {one.class_noun!r}")
        captions = (text for photo in one.photos for text in (photo.caption, *photo.more_captions))
        found += [f"{word!r} in a caption" for word in _in_captions(captions)]
    return tuple(dict.fromkeys(found))


def names_people(noun: str) -> bool:
    """Whether a class noun or another name has a word for people."""
    return any(_is_person(word) for word in _words(noun))


def _in_captions(captions: Iterable[str | None]) -> list[str]:
    return [match[0] for text in captions if text for match in _IN_CAPTIONS.finditer(text)]


def _words(noun: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", noun.casefold())


def _is_person(word: str) -> bool:
    return word in PEOPLE or word.removesuffix("s") in PEOPLE
