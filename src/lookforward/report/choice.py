"""Which cells may stand on one page: those that were asked for, whole, and made with the same settings."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lookforward.report.data import Problem, Result
from lookforward.report.origin import Origin

Key = tuple[str, str, int]
"""Subject, method and seed of a cell."""
Settings = Mapping[str, Any]
_AXES = ("subjects", "methods", "seeds")
_NAMED = 6  # methods or subjects that a sentence names


@dataclass(frozen=True, eq=False)
class Found:
    """A cell that can be read.

    shared: what all cells of a page must have alike, such as the base model. settings: its method's, which are alike
    for all subjects and seeds.
    """

    result: Result
    shared: Settings
    settings: Settings
    path: Path
    origin: Origin = field(default_factory=Origin)

    @property
    def key(self) -> Key:
        return self.result.subject, self.result.method, self.result.seed


@dataclass(frozen=True)
class Wanted:
    """What a folder's plan says; without one, what most cells have counts.

    cells: None stands for whatever there is. settings, hashes: by method. prompts: by subject. A method's settings may
    be told by their values or by the hash that the cells keep, which is right even where the defaults have changed.
    """

    cells: tuple[Key, ...] | None = None
    shared: Settings = field(default_factory=dict)
    settings: Mapping[str, Settings] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Choice(NamedTuple):
    """kept: what the page is of. shared: what these have alike. problems: what was asked for and is not fit, and why.
    others: how many of these were made with other settings. left: what was not asked for."""

    kept: list[Found]
    shared: Settings
    problems: list[Problem]
    others: int
    left: list[Key]


def planned_cells(told: Settings) -> tuple[Key, ...] | None:
    """The cells that benchmark.json asks for: of all its grids, or of its lists; None where it does not say."""
    named = {axis: [_name(one) for one in told.get(axis, ())] for axis in _AXES}
    grids: Sequence[Mapping[str, Sequence[Any]]] = told.get("grids") or [named]
    cells = (
        (str(subject), str(method), int(seed))
        for grid in grids
        for subject in grid["subjects"]
        for seed in grid["seeds"]
        for method in grid["methods"]
    )
    return tuple(dict.fromkeys(cells)) or None


def _name(one: Any) -> Any:
    return one["name"] if isinstance(one, Mapping) else one


def choose(found: Sequence[Found], wanted: Wanted) -> Choice:
    """What a page may be made of.

    What most cells have is of the cells that were asked for; of two settings with as many cells, those count whose cell
    comes first.
    """
    meant = {f.key for f in found} if wanted.cells is None else set(wanted.cells)
    asked, left = [f for f in found if f.key in meant], [f.key for f in found if f.key not in meant]
    problems: list[Problem] = []
    whole: list[Found] = []
    for one in asked:
        broken = not_finite(one.result)
        problems += [Problem(_where(one.key), broken)] if broken else []
        whole += [] if broken else [one]
    fits = [f for f in whole if not _apart(f.shared, {**f.shared, **wanted.shared})]
    shared = {**_most([f.shared for f in fits]), **wanted.shared}
    kept = [f for f in whole if not _apart(f.shared, shared)]
    others = [Problem(_where(f.key), _other(f.shared, shared)) for f in whole if f not in kept]
    for name in dict.fromkeys(f.result.method for f in kept):
        of_it = [f for f in kept if f.result.method == name]
        settings = wanted.settings.get(name, _most([f.settings for f in of_it]))
        for one in of_it:
            known = one.origin.config_hash and one.origin.config_hash == wanted.hashes.get(name)
            if _apart(one.settings, settings) and not known:
                kept.remove(one)
                others.append(Problem(_where(one.key), _other(one.settings, settings)))
    for one in list(_asked_otherwise(kept, wanted)):
        kept.remove(one)
        others.append(Problem(_where(one.key), "left out: it was asked other prompts than are meant for its subject"))
    return Choice(kept, shared, problems + others, len(others), left)


def not_finite(result: Result) -> str:
    """Which scores are not numbers, in words; "" where all are."""
    counts = {name: int((~np.isfinite(np.asarray(values))).sum()) for name, values in result.scores.items()}
    told = [f"{name} of {n} of {len(result.scores[name])} images" for name, n in counts.items() if n]
    return f"broken: {', '.join(told)} is not a finite number" if told else ""


def left_sentence(left: Sequence[Key]) -> str:
    """What lies in the folder and is not on the page; "" where there is nothing."""
    if not left:
        return ""
    subjects, methods = _some([subject for subject, _, _ in left]), _some([method for _, method, _ in left])
    cells = "1 cell" if len(left) == 1 else f"{len(left):,} cells"
    verb = "is" if len(left) == 1 else "are"
    return f"{cells} in the folder {verb} left out, as benchmark.json does not ask for them: {methods}; of {subjects}."


def _some(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else ""
    return ", ".join(unique[:_NAMED]) + more


def _asked_otherwise(cells: Sequence[Found], wanted: Wanted) -> Iterator[Found]:
    """Cells with other prompts than their subject's, which differ from subject to subject."""
    for subject in dict.fromkeys(f.result.subject for f in cells):
        of_it = [f for f in cells if f.result.subject == subject]
        prompts = wanted.prompts.get(subject) or tuple(_most([{"": f.result.prompts} for f in of_it])[""])
        yield from (f for f in of_it if f.result.prompts != prompts)


def _most(many: Sequence[Settings]) -> Settings:
    """The most frequent one, of equals the first."""
    by_text = {_text(one): one for one in many}
    counts = Counter(map(_text, many)).most_common(1)
    return by_text[counts[0][0]] if counts else {}


def _text(one: Settings) -> str:
    return json.dumps(one, sort_keys=True, default=str)


def _apart(ours: Settings, theirs: Settings) -> list[str]:
    """The names of what differs; what one side does not say is the default."""
    return [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]


def _other(ours: Settings, theirs: Settings) -> str:
    told = [f"{name} {_said(ours, name)}, not {_said(theirs, name)}" for name in _apart(ours, theirs)]
    return f"left out, as it was made with other settings: {'; '.join(told)}"


def _said(settings: Settings, name: str) -> str:
    value = settings.get(name)
    return "as by default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _where(key: Key) -> str:
    return f"{key[0]}, {key[1]}, seed {key[2]}"
