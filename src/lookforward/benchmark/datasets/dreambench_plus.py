"""A folder laid out as DreamBench++ (Peng et al., 2025): one image and one caption file of the same name per subject.

    images/object/00.jpg      captions/object/00.txt: the class noun, then nine prompts, one a line

The categories are live_subject/animal, live_subject/human, object and style. docs/dreambench-plus.md names the sources.
"""

import re
from pathlib import Path

from lookforward.benchmark.datasets.values import BenchmarkSubject, Dataset, require_names
from lookforward.data.folder import PHOTO_SUFFIXES
from lookforward.data.prompts import read_text
from lookforward.errors import LookforwardError
from lookforward.files import leads_out

CATEGORIES = ("live_subject/animal", "live_subject/human", "object", "style")
PARTS = ("images", "captions")
KINDS = ("photorealistic",) * 4 + ("style transfer",) * 3 + ("imaginative",) * 2  # of a subject's prompts, in order
SETTINGS = {"data.allow_few": True}  # there is one photo of each subject
_WHOLE = "{identifier} {class_noun}"


def read_dreambench_plus(folder: Path) -> Dataset:
    """The subjects of `captions/` whose image is there, called CATEGORY_NUMBER_NOUN as the published results call them.

    Raises:
        LookforwardError: a caption file is broken, an image leads out of the folder, or there is no subject.
    """
    subjects, missing, alone, odd, added = [], [], [], [], 0
    for category in CATEGORIES:
        files = sorted((folder / "images" / category).glob("*"), reverse=True)  # of one name the first counts
        photos = {path.stem: path for path in files if path.suffix.lower() in PHOTO_SUFFIXES}
        paths = sorted((folder / "captions" / category).glob("*.txt"))
        alone += [f"{category}/{stem}" for stem in sorted(photos.keys() - {path.stem for path in paths})]
        for path in paths:
            where, photo = f"{category}/{path.stem}", photos.get(path.stem)
            if photo is None:
                missing.append(where)
                continue
            if outside := next((one for one in (photo, path) if leads_out(one, folder)), None):
                raise LookforwardError(f"{outside} is not in {folder}. Copy it there.", code="link-outside")
            noun, prompts, without = _read_captions(path)
            added += without
            odd += [where] if len(prompts) != len(KINDS) else []
            name = "_".join((*where.split("/"), re.sub(r"[^\w-]+", "_", noun.lower()).strip("_")))
            kinds = dict(zip(prompts, KINDS, strict=True)) if len(prompts) == len(KINDS) else {}
            live, style, once = category.startswith("live"), category == "style", tuple(dict.fromkeys(prompts))
            subjects.append(BenchmarkSubject(name, noun, live, once, photo, kinds=kinds, style=style))
    if not subjects:
        text = f"{folder} has no subject: it would hold captions/object/00.txt with images/object/00.jpg, …"
        raise LookforwardError(text, code="dataset-empty")
    require_names([subject.name for subject in subjects], folder)
    lists = {
        "subjects have captions and no image": missing,
        "images have no captions, so they are left out": alone,
        f"subjects have other than {len(KINDS)} prompts, so their kinds are not known": odd,
    }
    notes = [f"{len(names)} {text}: {', '.join(names)}" for text, names in lists.items() if names]
    if added:
        notes.append(f"prompts that do not name their subject, which is added at the end: {added}")
    if styles := sum(subject.style for subject in subjects):
        text = "DINO and CLIP-I compare what is depicted; a judge is asked about the style itself"
        notes.append(f"subjects that are styles: {styles}. {text}")
    return Dataset("dreambench++", "dreambench++", tuple(subjects), str(folder), tuple(notes), SETTINGS)


def _read_captions(path: Path) -> tuple[str, list[str], int]:
    """Class noun, templates, and how many of them the subject was added to, since they do not name it."""
    lines = [" ".join(line.split()) for line in read_text(path).splitlines()]
    noun, *captions = [line for line in lines if line] or [""]
    if not captions:
        text = f"{path} must hold the class noun in its first line, and prompts in the next ones."
        raise LookforwardError(text, code="dataset-broken")
    if bad := [line for line in (noun, *captions) if re.search(r"[{}]", line)]:
        raise LookforwardError(f"{path}: {bad[0]!r} has braces; remove them.", code="dataset-broken")
    # The noun as a word, in either case, or its plural, whose ending stays
    named = re.compile(rf"(?<!\w){re.escape(noun)}(?=(?:e?s)?(?!\w))", re.IGNORECASE)
    templates = [named.sub(_WHOLE, caption, count=1) for caption in captions]
    without = [template for template in templates if _WHOLE not in template]
    whole = [t if _WHOLE in t else f"{t.rstrip('. ')}, {_WHOLE}" for t in templates]
    return noun, whole, len(without)
