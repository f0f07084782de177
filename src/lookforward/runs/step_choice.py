"""Which step of a run is the best, from measurements while it trains; and when more steps no longer gain.

A measurement is a mean over the images of a few validation prompts. Identity and prompt following are put on scales
that end at what is known: the untouched model, and the photos themselves.

    s_I = (I - I_model) / (I_photos - I_model)          0: the untouched model's images, 1: the photos
    s_P = (P - P_photos) / (P_model - P_photos)         0: the photos, whatever the prompt, 1: the untouched model
    s   = 1 / (w / s_I + (1 - w) / s_P)                 weighted harmonic mean, both cut to [0, 1]

A harmonic mean is low where either is low, so neither can be bought with the other (Miao et al., RPO, 2024, choose
steps by one too). It is smoothed over neighbouring measurements, 1 : 2 : 1, since one of them moves by chance.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lookforward.errors import LookforwardError
from lookforward.files import write_text
from lookforward.records import check_json_lines
from lookforward.seals import sealed_json


@dataclass(frozen=True)
class Evaluation:
    """One measurement. step: how many steps were done, 0: the untouched model.

    identity: mean similarity to the photos, in [-1, 1]. prompt: mean CLIP-T, in [-1, 1]. loss: denoising loss on fixed
    noise and timesteps. seconds: what it took.
    """

    step: int
    identity: float
    prompt: float
    loss: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Scale:
    """The ends of both scales. identity, prompt: (of the untouched model, of the photos); weight: w in (0, 1)."""

    identity: tuple[float, float]
    prompt: tuple[float, float]
    weight: float = 0.5

    def parts(self, one: Evaluation) -> tuple[float, float]:
        """s_I and s_P, in [0, 1]."""
        return _share(one.identity, *self.identity), _share(one.prompt, *reversed(self.prompt))

    def total(self, one: Evaluation) -> float:
        """s, in [0, 1]."""
        identity, prompt = self.parts(one)
        if min(identity, prompt) <= 0:
            return 0.0
        return 1 / (self.weight / identity + (1 - self.weight) / prompt)


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two ends, cut to [0, 1]; 1 where the ends leave nothing to tell."""
    return 1.0 if high - low < 1e-6 else min(1.0, max(0.0, (value - low) / (high - low)))


def smooth(values: Sequence[float]) -> list[float]:
    """Each value with half its weight in its neighbours; at the ends, of those that are there."""
    last = len(values) - 1
    smoothed = []
    for i, value in enumerate(values):
        near = [values[j] for j in (i - 1, i + 1) if 0 <= j <= last]
        smoothed.append((2 * value + sum(near)) / (2 + len(near)))
    return smoothed


@dataclass(frozen=True)
class Choice:
    """The best step so far. place: of it among the measurements; score: its smoothed s."""

    step: int
    place: int
    score: float


def choose(scale: Scale, rows: Sequence[Evaluation]) -> Choice:
    """The best of the measured steps after step 0, the earliest of equals.

    Raises:
        ValueError: no step after step 0 was measured.
    """
    steps, scores = _scores(scale, rows)
    if not steps:
        raise ValueError("no trained step was measured")
    place = max(range(len(scores)), key=scores.__getitem__)
    return Choice(steps[place], place, scores[place])


def candidates(scale: Scale, rows: Sequence[Evaluation]) -> set[int]:
    """The steps that may still turn out to be the best.

    They are the last one, whose smoothed score its next neighbour will change, and the best of those before it.
    """
    steps, scores = _scores(scale, rows)
    if len(steps) < 2:
        return set(steps)
    return {steps[-1], steps[max(range(len(steps) - 1), key=scores.__getitem__)]}


def _scores(scale: Scale, rows: Sequence[Evaluation]) -> tuple[list[int], list[float]]:
    """The measured steps after step 0, and the smoothed s of each."""
    trained = [one for one in rows if one.step > 0]
    return [one.step for one in trained], smooth([scale.total(one) for one in trained])


def no_longer_gains(scale: Scale, rows: Sequence[Evaluation], patience: int) -> bool:
    """Whether the best step lies `patience` measurements back; patience 0: never."""
    trained = sum(one.step > 0 for one in rows)
    return patience > 0 and trained > 0 and trained - 1 - choose(scale, rows).place >= patience


def read_evaluations(path: Path) -> list[Evaluation]:
    """The measurements of a run, oldest first; none where there is no file.

    Raises:
        LookforwardError: the file is damaged; the message names the line.
    """
    if not path.is_file():
        return []
    rows, damaged = check_json_lines(path, Evaluation)
    if damaged:  # the last line too, since all are written at once
        raise LookforwardError(
            f"{path}, line {damaged[0].number}, is damaged: {damaged[0].problem}. Delete that line: the step is "
            "measured again if the run comes by it, and is otherwise left out.",
            "file-damaged",
        )
    return sorted(rows, key=lambda one: one.step)


def write_evaluations(path: Path, rows: Sequence[Evaluation]) -> None:
    """Write them all, atomically. Raises LookforwardError where that fails."""
    write_text(path, "".join(sealed_json(asdict(one)) + "\n" for one in rows))
