"""What a judge is to be asked of a benchmark's images, and what that costs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageOps

from lookforward.benchmark.datasets.values import photo_files
from lookforward.benchmark.described import listed_photos
from lookforward.benchmark.images import photo_folder
from lookforward.benchmark.judge.answers import Answers, digest_of
from lookforward.benchmark.judge.endpoint import Endpoint
from lookforward.benchmark.judge.questions import CONCEPT, PROMPT, QUESTIONS, concept_question, prompt_question
from lookforward.benchmark.judge.recorded import RatedCell, Rating, RatingsFile, images_digest
from lookforward.benchmark.plan import CellKey
from lookforward.benchmark.provenance import now
from lookforward.benchmark.reading import read_benchmark, read_description
from lookforward.data.image_files import ImageError, opened_image
from lookforward.data.prompts import fill
from lookforward.errors import LookforwardError
from lookforward.files import leads_out
from lookforward.report.data import CELL

_LETTERS = 4  # of a token, about
ANSWER_TOKENS = 120  # of an answer, about


@dataclass(frozen=True)
class Item:
    """One rating. image: its index in the cell. pictures: (h, w, 3) uint8; the reference comes first. digest: of all
    that is asked, "" if its pictures are missing. wanted: whether to ask for it, if it is not known."""

    key: CellKey
    image: int
    question: str
    text: str
    pictures: tuple[np.ndarray, ...]
    digest: str
    wanted: bool


@dataclass
class Cost:
    """What is still to be asked. ratings: with those that are answered. tokens: estimates."""

    ratings: int = 0
    requests: int = 0
    pictures: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Survey:
    """open: digests to ask for. digests: cell → question → one for each image, "" if none can be asked for."""

    cost: Cost = field(default_factory=Cost)
    open: set[str] = field(default_factory=set)
    digests: dict[CellKey, dict[str, list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Images:
    """The images of a benchmark's folder that are to be rated.

    methods: to rate; all if empty. most: images of each prompt; all if None. size: longest side sent, in pixels.

    Raises:
        LookforwardError: the folder holds no finished cell, or there is no such method.
    """

    def __init__(
        self, folder: Path, endpoint: Endpoint, methods: Sequence[str] = (), most: int | None = None, size: int = 512
    ) -> None:
        self.folder, self.endpoint, self.most, self.size = folder, endpoint, most, size
        self._benchmark = read_benchmark(folder)
        self._listed = listed_photos(folder, read_description(folder / "benchmark.json") or {})
        self._reference = lru_cache(maxsize=4)(self._read_reference)
        there = self._benchmark.present
        if unknown := [name for name in methods if name not in there]:
            raise LookforwardError(
                f"{folder} has no method {unknown[0]!r}. It has: {', '.join(there)}.", "method-unknown"
            )
        self.methods = tuple(methods) or tuple(there)

    def items(self) -> Iterator[list[Item]]:
        """The ratings of one cell after another."""
        rows = self._benchmark.images
        keys: Iterator[CellKey] = rows[CELL].drop_duplicates().itertuples(index=False, name=None)
        for key in keys:
            of_cell = (rows.subject == key[0]) & (rows.method == key[1]) & (rows.seed == key[2])
            yield self._items_of(key, list(rows.prompt[of_cell]))

    def survey(self, answers: Answers, image_tokens: int, again: bool = False) -> Survey:
        """What is to be asked, and what that costs. image_tokens: of one image. again: also ask for missing ratings."""
        found, without = Survey(), set()
        for items in self.items():
            for item in items:
                of_cell = found.digests.setdefault(item.key, {})
                of_cell.setdefault(item.question, []).append(item.digest)
                if not item.digest or not item.wanted:
                    continue
                found.cost.ratings += 1
                known = answers.get(item.digest)
                if item.digest not in found.open and (
                    known is None or known.refused or (again and known.rating is None)
                ):
                    found.open.add(item.digest)
                    found.cost.requests += 1
                    found.cost.pictures += len(item.pictures)
                    found.cost.prompt_tokens += len(item.text) // _LETTERS + image_tokens * len(item.pictures)
                    found.cost.answer_tokens += ANSWER_TOKENS
            without |= {
                item.key[0] for item in items if item.question == CONCEPT and self._reference(item.key[0]) is None
            }
        if without:
            names = ", ".join(sorted(without))
            found.notes.append(f"no photo can be read of {names}, so their concept preservation is not rated")
        return found

    def ratings(self, found: Survey, answers: Answers) -> RatingsFile:
        """Everything that is answered, as ratings.json has it."""
        known = {digest: answers.get(digest) for of_cell in found.digests.values() for all in of_cell.values()
                 for digest in all if digest}  # fmt: skip

        def rating(digest: str) -> Rating:
            answer = known.get(digest)
            return None if answer is None else answer.why if answer.rating is None else answer.rating

        cells = [
            RatedCell(*key, images_digest(self.folder, key), *([rating(d) for d in of_cell[q]] for q in QUESTIONS))
            for key, of_cell in found.digests.items()
        ]
        one, given = self.endpoint, [answer for answer in known.values() if answer is not None]
        tokens = sum(answer.prompt_tokens for answer in given), sum(answer.answer_tokens for answer in given)
        return RatingsFile(one.url, one.model, dict(one.parameters), self.size, now(), *tokens, cells)

    def _items_of(self, key: CellKey, prompts: Sequence[str]) -> list[Item]:
        """Two for each image."""
        subject, drawn = self._benchmark.subjects[key[0]], self._benchmark.drawn(key)
        reference, count = self._reference(key[0]), prompts.count(prompts[0])
        items = []
        for i, prompt in enumerate(prompts):
            wanted = key[1] in self.methods and (self.most is None or i % count < self.most)
            own = (drawn[i],) if len(drawn) == len(prompts) else ()
            pair = (reference, *own) if own and reference is not None else ()
            concept = concept_question(subject.class_noun, subject.style)
            text = prompt_question(fill(prompt, "", subject.class_noun))
            for question, words, pictures in ((CONCEPT, concept, pair), (PROMPT, text, own)):
                digest = self._digest(words, pictures) if pictures else ""
                items.append(Item(key, i, question, words, pictures, digest, wanted))
        return items

    def _digest(self, text: str, pictures: tuple[np.ndarray, ...]) -> str:
        return digest_of(self.endpoint.model, text, pictures, self.endpoint.parameters, self.size)

    def _read_reference(self, name: str) -> np.ndarray | None:
        """The first photo of a subject that can be read, whole and upright."""
        for path in self._listed.get(name) or photo_files(photo_folder(self.folder, name)):
            try:
                if path.is_relative_to(self.folder) and leads_out(path, self.folder):
                    continue
                with opened_image(path) as photo:
                    return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
            except (ImageError, OSError):
                continue
        return None
