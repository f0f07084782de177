"""What a report is made of: the finished cells of a benchmark, and what was planned. Read from disk elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

UNTOUCHED = "untouched"  # the method that is the model as it is, asked for the class noun: the floor


@dataclass(frozen=True)
class Subject:
    """Whom photos show."""

    name: str
    class_noun: str
    live: bool  # a cat or a dog: it is asked the live prompts

    @property
    def group(self) -> str:
        return "live subjects" if self.live else "objects"


@dataclass(frozen=True)
class Method:
    """What is compared.

    label: as it is shown. optimised: the scores that its reward asked, no evidence for it. paper: the row of the
    paper's tables that it stands for, see `page.paper`; "" for none. departs: which of its settings are not that row's,
    each as "steps 300 (1000)", the paper's in brackets.
    """

    name: str
    label: str
    optimised: tuple[str, ...] = ()
    paper: str = ""
    departs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One finished cell.

    prompts: templates. kinds: what each of them asks for, such as scene, outfit or look. scores: name to one number
    for each image, prompts in order, images within. curves: logged term to [step, mean].
    """

    subject: str
    method: str
    seed: int
    scores: Mapping[str, Sequence[float]]
    prompts: tuple[str, ...]
    kinds: tuple[str, ...]
    images: int = 1  # of each prompt
    seconds: float = 0.0  # of training
    memory: float = 0.0  # MiB, of the process
    gpu_memory: float = 0.0  # MiB, of tensors on the GPU; 0 where there was none
    parameters: int = 0  # trained
    size: float = 0.0  # MiB, of the weights that one would pass on
    steps: int = 0
    curves: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    def mean(self, score: str, kind: str | None = None) -> float | None:
        """The mean of a score over the images, or over those of a kind of prompt; None where there are none.

        Of a value that is not finite the mean is not either: such a cell is broken, and has no place on a page.
        """
        values = np.asarray(self.scores.get(score, ()), dtype=np.float64)
        if kind is not None:
            if len(values) != len(self.prompts) * self.images:
                return None
            values = values[np.repeat([k == kind for k in self.kinds], self.images)]
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Problem:
    """A cell that failed or cannot be read, and why."""

    where: str
    why: str


@dataclass(frozen=True)
class Benchmark:
    """Everything a report tells.

    methods, subjects: by name, in the order they are shown. planned: (subject, method, seed) of every cell there should
    be. pictures: a result to what it drew, each (h, w, 3) uint8, in the order of its scores, or () where nothing is
    left. references: a subject's name to its photos. kind: the data set's: toybox, dreambooth or custom-concept; ""
    where it is not known. encoders: whether scores had others than the model's own. left_out: what lies in the folder
    and is not told of, in a sentence. warnings: what makes the cells hard to compare. ceiling: "live subjects" and
    "objects" to score to what other pictures of the subject have.
    """

    title: str
    dataset: str
    model: str
    when: str
    versions: str  # of what measured
    methods: Mapping[str, Method]
    subjects: Mapping[str, Subject]
    planned: tuple[tuple[str, str, int], ...]
    results: tuple[Result, ...]
    pictures: Callable[[Result], Sequence[np.ndarray]]
    references: Callable[[str], Sequence[np.ndarray]]
    problems: tuple[Problem, ...] = ()
    kind: str = ""
    encoders: bool = False
    left_out: str = ""
    warnings: tuple[str, ...] = ()
    ceiling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baseline: str = "dreambooth"

    @property
    def scores(self) -> list[str]:
        """The names of the scores, in the order of the cells."""
        return list(dict.fromkeys(name for result in self.results for name in result.scores))

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, _, seed in self.planned})

    @property
    def missing(self) -> list[tuple[str, str, int]]:
        """What was planned and is not finished."""
        there = {(r.subject, r.method, r.seed) for r in self.results}
        return [cell for cell in self.planned if cell not in there]

    def of(self, method: str, group: str | None = None) -> list[Result]:
        """The finished cells of a method, or those of live subjects or objects only."""
        return [
            r for r in self.results if r.method == method and (group is None or self.subjects[r.subject].group == group)
        ]

    def label(self, method: str) -> str:
        return self.methods[method].label

    def mark(self, method: str, score: str, against: str = "") -> str:
        """What goes behind a score that the method optimised, or behind a difference where either side did."""
        sides = [self.methods[name] for name in (method, against) if name in self.methods]
        return " †" if any(score in side.optimised for side in sides) else ""
