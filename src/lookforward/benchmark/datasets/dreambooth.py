"""A folder laid out as the DreamBooth data set (Ruiz et al., 2023): a folder a subject, and one file about all.

`prompts_and_classes.txt` is read as it is published: a table of class nouns, then Python's own words for two lists of
prompts, one for objects and one for live subjects.
"""

import os
import re
from pathlib import Path

from lookforward.benchmark.datasets.values import BenchmarkSubject, Dataset, require_names
from lookforward.data.prompts import LIVE_CLASSES, LIVE_PROMPTS, OBJECT_PROMPTS, read_prompts_and_classes, read_text
from lookforward.errors import LookforwardError

TABLE = "prompts_and_classes.txt"
_PROMPT = re.compile(r"""^\s*(['"])(.*)\1\s*\.format\(\s*unique_token\s*,\s*class_token\s*\)""")
_HEADINGS = {"object prompts": "object", "live subject prompts": "live"}


def read_dreambooth(folder: Path) -> Dataset:
    """The subjects of the table whose folders are there; cats and dogs are live.

    Raises:
        LookforwardError: the table is missing or broken, or none of its folders is there.
    """
    classes = read_prompts_and_classes(folder / TABLE)
    require_names(list(classes), folder / TABLE)
    for name, noun in classes.items():
        if not noun:
            raise LookforwardError(
                f"{folder / TABLE} gives {name} no class; write {name},CLASS.", code="dataset-broken"
            )
    prompts = read_prompt_lists(folder / TABLE)
    present = [name for name in classes if os.path.isdir(folder / name)]
    if not present:
        text = f"{folder} has no folder of any subject in {TABLE}: it would hold {', '.join(list(classes)[:3])}, …"
        raise LookforwardError(text, code="dataset-empty")
    subjects = []
    for name in present:
        live = classes[name] in LIVE_CLASSES
        asked = prompts["live" if live else "object"]
        subjects.append(BenchmarkSubject(name, classes[name], live, asked, folder / name))
    return Dataset(folder.resolve().name, "dreambooth", tuple(subjects), str(folder), _notes(folder, classes, present))


def read_prompt_lists(path: Path) -> dict[str, tuple[str, ...]]:
    """The templates of `prompts_and_classes.txt` for "object" and "live"; the published ones where it has no lists.

    Raises:
        LookforwardError: it has one of the two only, or a placeholder that has no meaning.
    """
    found: dict[str, list[str]] = {"object": [], "live": []}
    kind = ""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        kind = _HEADINGS.get(line.strip().lower(), kind)
        match = _PROMPT.match(line)
        if not match or not kind:
            continue
        template = match[2].replace("{0}", "{identifier}").replace("{1}", "{class_noun}")
        if re.search(r"[{}]", template.replace("{identifier}", "").replace("{class_noun}", "")):
            text = f"{path}, line {number}: {match[2]!r} may hold {{0}} and {{1}} only."
            raise LookforwardError(text, code="dataset-broken")
        found[kind].append(" ".join(template.split()))
    if not any(found.values()):
        return {"object": OBJECT_PROMPTS, "live": LIVE_PROMPTS}
    missing = [kind for kind, templates in found.items() if not templates]
    if missing:
        text = f"{path} has no prompts for {missing[0]} subjects; copy them from the DreamBooth data set's {TABLE}."
        raise LookforwardError(text, code="dataset-broken")
    return {kind: tuple(templates) for kind, templates in found.items()}


def _notes(folder: Path, classes: dict[str, str], present: list[str]) -> tuple[str, ...]:
    missing = [name for name in classes if name not in present]
    unknown = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._" and p.name not in classes)
    notes = []
    if missing:
        notes.append(f"{len(missing)} of the {len(classes)} subjects in {TABLE} have no folder: {', '.join(missing)}")
    if unknown:
        notes.append(f"{TABLE} does not name these folders, which are left out: {', '.join(unknown)}")
    return tuple(notes)
