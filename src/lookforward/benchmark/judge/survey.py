"""What a judge is to be asked of a benchmark's images, and how much that is."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lookforward.benchmark.datasets.values import photo_files
from lookforward.benchmark.described import listed_photos
from lookforward.benchmark.images import photo_folder
from lookforward.benchmark.judge.answers import ANSWERS, Answers, digest_of
from lookforward.benchmark.judge.endpoint import Endpoint
from lookforward.benchmark.judge.questions import CONCEPT, LABELS, PROMPT, QUESTIONS, concept_question, prompt_question
from lookforward.benchmark.judge.recorded import RatedCell, Rating, RatingsFile, images_digest
from lookforward.benchmark.plan import CellKey, cell_name
from lookforward.benchmark.provenance import now
from lookforward.benchmark.reading import read_benchmark, read_description
from lookforward.data.image_files import ImageError, opened_image
from lookforward.data.people import names_people
from lookforward.data.prompts import fill
from lookforward.errors import LookforwardError
from lookforward.files import leads_out
from lookforward.report.data import CELL


@dataclass(frozen=True)
class Item:
    """One rating. pictures: (h, w, 3) uint8; the reference comes first. digest: of all that is asked, "" if its
    pictures are missing. wanted: whether to ask for it, if it is not known."""

    question: str
    text: str
    pictures: tuple[np.ndarray, ...]
    digest: str
    wanted: bool


@dataclass
class Survey:
    """What there is to rate.

    wanted: ratings in all. answered: of them, rated or not; rated: of those. open: digests to ask for, with so many
    pictures and letters in all. digests: cell → question → one for each image, "" if none can be asked for. files:
    cell → digest of the file of its images, before they were read. notes: sentences for the user.
    """

    wanted: int = 0
    answered: int = 0
    rated: int = 0
    pictures: int = 0
    letters: int = 0
    open: set[str] = field(default_factory=set)
    digests: dict[CellKey, dict[str, list[str]]] = field(default_factory=dict)
    files: dict[CellKey, str] = field(default_factory=dict)
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

    def survey(self, answers: Answers, again: bool = False) -> Survey:
        """What there is to rate, and what of it to ask for. again: also for ratings that the judge did not give."""
        found, elsewhere, sent = Survey(), Counter[str](), set[str]()
        for key, items in self._cells(found.files):
            of_cell = found.digests.setdefault(key, {question: [] for question in QUESTIONS})
            for item in items:
                of_cell[item.question].append(item.digest)
                if not (item.digest and item.wanted):
                    continue
                known = answers.get(item.digest)
                found.wanted += 1
                if known is None or known.refused or (again and known.rating is None):
                    if item.digest not in found.open:
                        found.open.add(item.digest)
                        found.pictures += len(item.pictures)
                        found.letters += len(item.text)
                    sent.add(key[0])
                else:
                    found.answered += 1
                    found.rated += known.rating is not None
                    elsewhere[known.endpoint] += known.endpoint != self.endpoint.url
        found.notes += self._notes(found, +elsewhere, sorted(sent))
        return found

    def open_items(self, found: Survey) -> Iterator[Item]:
        """Those that a survey found open, each once, though several cells may ask the same."""
        left = set(found.open)
        for _, items in self._cells({}):
            for item in items:
                if item.digest in left:
                    left.remove(item.digest)
                    yield item

    def ratings(self, found: Survey, answers: Answers) -> RatingsFile:
        """Everything that is answered, as ratings.json has it."""
        digests = {digest for of_cell in found.digests.values() for all in of_cell.values() for digest in all}
        known = {digest: answer for digest in digests if (answer := answers.get(digest)) is not None}

        def rating(digest: str) -> Rating:
            answer = known.get(digest)
            return None if answer is None else answer.why if answer.rating is None else answer.rating

        cells = [
            RatedCell(*key, found.files[key], *([rating(digest) for digest in of_cell[q]] for q in QUESTIONS))
            for key, of_cell in found.digests.items()
            if found.files[key]
        ]
        one, given = self.endpoint, known.values()
        tokens = sum(answer.prompt_tokens for answer in given), sum(answer.answer_tokens for answer in given)
        where = ", ".join(sorted({answer.endpoint for answer in given})) or one.url
        return RatingsFile(where, one.model, dict(one.parameters), self.size, now(), *tokens, cells)

    def _notes(self, found: Survey, elsewhere: Counter[str], sent: Sequence[str]) -> list[str]:
        """elsewhere: ratings by address. sent: names of subjects whose images are open."""
        notes, subjects = [], self._benchmark.subjects
        if lost := [cell_name(key) for key, of_cell in found.digests.items() if not any(of_cell[PROMPT])]:
            notes.append(f"no images of {', '.join(lost)} can be read, so they are not rated")
        if without := {key[0] for key, one in found.digests.items() if any(one[PROMPT]) and not any(one[CONCEPT])}:
            notes.append(f"no photo of {', '.join(sorted(without))} can be read, so {LABELS[CONCEPT]} is not rated")
        for url, count in elsewhere.items():
            text = f"{count:,} ratings are by a judge of the same name at {url}"
            notes.append(f"{text}; if that is another model, move {self.folder / ANSWERS} away and start again")
        if people := [name for name in sent if names_people(f"{name} {subjects[name].class_noun}")]:
            text = f"subjects that may be people: {', '.join(people)}"
            notes.append(f"{text}. Send their photos to {self.endpoint.host} only if they agree")
        photos = [path for name in sent for path in self._listed.get(name, [])[:1]]
        if outside := sorted({str(path.parent) for path in photos if not path.is_relative_to(self.folder)}):
            notes.append(f"photos come from {len(outside):,} folders elsewhere: {', '.join(outside)}")
        here = re.fullmatch(r"(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?", self.endpoint.host)
        if found.open and not (self.endpoint.encrypted or here):
            key = " and the key" if self.endpoint.key else ""
            notes.append(f"{self.endpoint.host} is reached by http: images{key} travel unencrypted")
        return notes

    def _cells(self, files: dict[CellKey, str]) -> Iterator[tuple[CellKey, list[Item]]]:
        """One cell after another with its ratings. files: takes the digest of the file of its images."""
        rows = self._benchmark.images
        keys: Iterator[CellKey] = rows[CELL].drop_duplicates().itertuples(index=False, name=None)
        for key in keys:
            of_cell = (rows.subject == key[0]) & (rows.method == key[1]) & (rows.seed == key[2])
            files[key] = images_digest(self.folder, key)
            yield key, self._items_of(key, list(rows.prompt[of_cell]), self._benchmark.drawn(key) if files[key] else ())

    def _items_of(self, key: CellKey, prompts: Sequence[str], drawn: Sequence[np.ndarray]) -> list[Item]:
        """Two for each image."""
        subject, reference, count = self._benchmark.subjects[key[0]], self._reference(key[0]), prompts.count(prompts[0])
        items = []
        for i, prompt in enumerate(prompts):
            wanted = key[1] in self.methods and (self.most is None or i % count < self.most)
            own = (drawn[i],) if len(drawn) == len(prompts) else ()
            pair = (reference, *own) if own and reference is not None else ()
            concept = concept_question(subject.class_noun, subject.style)
            text = prompt_question(fill(prompt, "", subject.class_noun))
            for question, words, pictures in ((CONCEPT, concept, pair), (PROMPT, text, own)):
                one = self.endpoint
                digest = digest_of(one.model, words, pictures, one.parameters, self.size) if pictures else ""
                items.append(Item(question, words, pictures, digest, wanted))
        return items

    def _read_reference(self, name: str) -> np.ndarray | None:
        """The first photo of a subject that can be read, whole, upright and as small as it is sent."""
        for path in self._listed.get(name) or photo_files(photo_folder(self.folder, name)):
            try:
                if path.is_relative_to(self.folder) and leads_out(path, self.folder):
                    continue
                with opened_image(path) as photo:
                    upright = ImageOps.exif_transpose(photo).convert("RGB")
                    upright.thumbnail((self.size, self.size), Image.Resampling.LANCZOS)
                    return np.asarray(upright)
            except (ImageError, OSError):
                continue
        return None
