"""Which cells may stand on one page: those that were planned, whole, and run with the same settings."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lookforward.benchmark.cell import Cell, non_finite_scores
from lookforward.benchmark.plan import CellKey, cell_name
from lookforward.benchmark.recorded import known_settings, other_than_default
from lookforward.report.data import UNTOUCHED, Problem

Values = Mapping[str, Any]
ENCODERS = ("dino", "clip", "dinov2")
# The untouched model is not trained: no other setting affects what it draws
_OF_SAMPLER = (
    "model.name", "model.precision", "data.resolution", "evaluation.sampler_steps", "evaluation.guidance",
)  # fmt: skip
_NAMED = 6  # methods or subjects that a sentence names


@dataclass(frozen=True)
class Wanted:
    """What a folder's plan asks for; where it is silent, what most cells have counts.

    cells: None stands for whatever there is. shared: what all cells must have alike, such as the base model. settings,
    hashes: by method; cells of older versions whose defaults differ are known by the hash. prompts: by subject.
    """

    cells: tuple[CellKey, ...] | None = None
    shared: Values = field(default_factory=dict)
    settings: Mapping[str, Values] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Selection(NamedTuple):
    """kept: the cells of the page. shared: what they have alike. problems: planned cells that are left out, and why.
    other_settings: how many of these had other settings. unplanned: what was not asked for."""

    kept: list[Cell]
    shared: Values
    problems: list[Problem]
    other_settings: int
    unplanned: list[CellKey]


def select(cells: Sequence[Cell], wanted: Wanted) -> Selection:
    """The cells that a page may consist of.

    What most cells have is decided among the planned ones; of two settings with as many cells, the first one counts.
    """
    planned = {cell.key for cell in cells} if wanted.cells is None else set(wanted.cells)
    broken, others, whole = [], [], []
    for cell in cells:
        if cell.key in planned:
            bad = [f"{n} of {count} of {len(cell.scores[n])} images" for n, count in non_finite_scores(cell).items()]
            whole += [] if bad else [cell]
            broken += [Problem(where(cell.key), f"broken: {', '.join(bad)} is not a finite number")] if bad else []

    def keep_alike(group: list[Cell], values: list[Values], meant: Values, hash_: str = "") -> list[Cell]:
        kept = []
        for cell, own in zip(group, values, strict=True):
            known = hash_ and cell.provenance.get("config_hash") == hash_
            if known or not _differing(own, meant):
                kept.append(cell)
            else:
                others.append(Problem(where(cell.key), _why(own, meant)))
        return kept

    values = [_shared(cell, wanted.cells is None) for cell in whole]
    fitting = [own for own in values if not _differing(own, {**own, **wanted.shared})]
    shared = {**_most_common(fitting), **wanted.shared}
    kept = keep_alike(whole, values, shared)
    for name in dict.fromkeys(cell.method for cell in kept):
        of_method = [cell for cell in kept if cell.method == name]
        values = [_method_settings(cell) for cell in of_method]
        meant = wanted.settings.get(name, _most_common(values))
        alike = keep_alike(of_method, values, meant, wanted.hashes.get(name, ""))
        kept = [cell for cell in kept if cell.method != name or cell in alike]
    for subject in dict.fromkeys(cell.subject for cell in kept):
        of_subject = [cell for cell in kept if cell.subject == subject]
        values = [{"": cell.settings["prompts"]} for cell in of_subject]
        meant = {"": list(wanted.prompts[subject])} if subject in wanted.prompts else _most_common(values)
        apart = [cell for cell, own in zip(of_subject, values, strict=True) if own != meant]
        others += [Problem(where(c.key), "left out: it has other prompts than planned for its subject") for c in apart]
        kept = [cell for cell in kept if cell not in apart]
    order = {cell.key: i for i, cell in enumerate(cells)}
    kept.sort(key=lambda cell: order[cell.key])
    return Selection(kept, shared, broken + others, len(others), [c.key for c in cells if c.key not in planned])


def unplanned_sentence(keys: Sequence[CellKey]) -> str:
    """What is in the folder and not on the page; "" if there is nothing."""
    if not keys:
        return ""
    cells = "1 cell in the folder is" if len(keys) == 1 else f"{len(keys):,} cells in the folder are"
    subjects, methods = _some(subject for subject, _, _ in keys), _some(method for _, method, _ in keys)
    return f"{cells} left out, as benchmark.json does not ask for them: {methods}; of {subjects}."


def where(key: CellKey) -> str:
    """A cell as a sentence names it."""
    return f"{key[0]}, {key[1]}, seed {key[2]}"


def unique(cells: Mapping[str, Cell]) -> tuple[list[Cell], list[Problem]]:
    """One cell for each key out of those by the stem of their file; second files of a cell become problems."""
    chosen: dict[CellKey, str] = {}
    for stem in sorted(cells, key=lambda stem: stem != cell_name(cells[stem].key)):
        chosen.setdefault(cells[stem].key, stem)
    copies = {stem: chosen[cell.key] for stem, cell in cells.items() if chosen[cell.key] != stem}
    problems = [
        Problem(f"{s}.json", f"is a second file of a cell: {shown}.json is shown") for s, shown in copies.items()
    ]
    return [cell for stem, cell in cells.items() if stem not in copies], problems


def _shared(cell: Cell, unplanned: bool) -> Values:
    settings = cell.settings
    shared = {
        "base model": known_settings(settings["config"]).model.name,
        "images per prompt": int(settings["images"]),
        "identifier in CLIP-T": bool(settings.get("identifier_in_clip_text")),
        "extra scores": sorted(settings.get("extra_scores", ())),
        **{f"encoder of {name}": settings.get(name) for name in ENCODERS},
    }
    # Otherwise the plan has each subject's prompts
    return {**shared, "prompts per subject": len(settings["prompts"])} if unplanned else shared


def _method_settings(cell: Cell) -> Values:
    """The settings that all cells of the method must have alike."""
    settings = known_settings(cell.settings["config"])
    if cell.method == UNTOUCHED:
        return {name: settings.flat()[name] for name in _OF_SAMPLER}
    return other_than_default(settings)


def _most_common(many: Sequence[Values]) -> Values:
    """The most frequent one, of equals the first."""
    texts = [json.dumps(one, sort_keys=True, default=str) for one in many]
    return many[texts.index(Counter(texts).most_common(1)[0][0])] if many else {}


def _differing(ours: Values, theirs: Values) -> list[str]:
    """The names of what differs; what one side does not have is the default."""
    return [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]


def _why(ours: Values, theirs: Values) -> str:
    pairs = [f"{name} {_value(ours, name)}, not {_value(theirs, name)}" for name in _differing(ours, theirs)]
    return f"left out, as it was run with other settings: {'; '.join(pairs)}"


def _value(settings: Values, name: str) -> str:
    value = settings.get(name)
    return "as by default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _some(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else ""
    return ", ".join(unique[:_NAMED]) + more
