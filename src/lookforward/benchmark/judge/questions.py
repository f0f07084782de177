"""What a judge is asked, and how its answer is read.

Two questions of DreamBench++ (Peng et al., 2025), each rated from 0 to 4: does the image keep the subject of the
reference, and does it follow its prompt? The criteria are the paper's; the words are ours.
"""

import re
from typing import Annotated

from pydantic import Field

CONCEPT, PROMPT = "concept_preservation", "prompt_following"
QUESTIONS = (CONCEPT, PROMPT)
LABELS = {CONCEPT: "concept preservation", PROMPT: "prompt following"}  # as tables call them
HIGHEST = 4  # rating; 0 is the lowest
Points = Annotated[int, Field(ge=0, le=HIGHEST)]  # checked where a file is read

_FORM = "Weigh each point in a few words. Then end with one line, `Score: N`, where N is a whole number from 0 to 4."
_SUBJECT = """\
Two images follow. The first is a reference: it shows a particular {noun}. A model was to show that very {noun} in \
another picture, and generated the second. Rate how much of its identity the second image keeps:
- shape: outline, proportions, parts
- colour: the main colours and where they are
- texture: material, pattern, fine marks
- face, if there is one: its features and expression of character
Do not judge background, pose, light or beauty. Where the second image is drawn in another style, judge what the style \
leaves to be seen.
0: something else, or nothing like it is there.
1: the same kind of thing, but plainly another one.
2: several of its own features are there, several others are wrong or missing.
3: nearly all of them, with small differences.
4: by all that can be seen, the same one.
"""
_STYLE = """\
Two images follow. The first is an example of an artistic style, "{noun}". A model was to use that very style for \
other content, and generated the second. Rate how much of the style the second image keeps:
- colour: palette, contrast, light
- texture: medium, strokes or lines, surface
- form: how shapes are simplified, drawn and composed
Do not judge what is depicted, nor beauty.
0: another style.
1: a remote likeness.
2: several traits of the style are there, several others are missing.
3: nearly all of them, with small differences.
4: it could be by the same hand.
"""
_PROMPT = """\
The image was generated from this prompt: "{prompt}"
Rate how completely the image shows what the prompt asks for:
- things: is everything that it names there?
- properties and actions: does each look and behave as it says?
- setting and relations: are place, surroundings and arrangement right?
- manner: is it in the style or medium that it asks for, if any?
Do not judge beauty, nor anything that the prompt leaves open.
0: nothing of it.
1: little of it.
2: a good part, but something that matters is missing or wrong.
3: nearly everything, with small errors.
4: everything.
"""
REMINDER = "Answer again with nothing but the line `Score: N`, where N is 0, 1, 2, 3 or 4."
_NUMBER = r"""
    (?<![-−–.]) (?P<number> \d+ (?:[.,]\d+)? ) (?! [\w%] | [.,]\d )  # not -1, and 3.5 as a whole
    (?: \s? \(? (?:/|(?:out\ )?of\ ) \s? (?P<highest> \d+) )?  # 3/4
    (?P<more> [ ]? (?:[-−–—]|to|or|and) [ ]? \d )?  # 2-3, 2 or 3
"""
_SCORE = re.compile(
    rf"""(?: ^ | [^\w\s] ) [^\w\n]{{0,8}}  # begins a line or a sentence: "shape score" is of one point
    (?: (?:final|overall|total) \s )? score (?: \s? \( [^()]{{0,40}} \) )? \W{{0,8}} {_NUMBER}""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_ALONE = re.compile(rf"[^\w]{{0,8}} {_NUMBER} \W{{0,8}}", re.IGNORECASE | re.VERBOSE)


def concept_question(noun: str, style: bool) -> str:
    """Asks about the second of two images, of which the first is the reference."""
    return (_STYLE if style else _SUBJECT).format(noun=noun) + _FORM


def prompt_question(prompt: str) -> str:
    """Asks about one image."""
    return _PROMPT.format(prompt=prompt) + _FORM


def read_rating(answer: str) -> int | None:
    """The rating at the end of an answer, 0 to 4; None if it has none, a range, a fraction, or one of another scale."""
    found = [*_SCORE.finditer(answer)][-1:] or [match for match in (_ALONE.fullmatch(answer),) if match]
    if not found or found[0]["more"] or found[0]["highest"] not in (None, str(HIGHEST)):
        return None
    rating = float(found[0]["number"].replace(",", "."))
    return int(rating) if rating in range(HIGHEST + 1) else None
