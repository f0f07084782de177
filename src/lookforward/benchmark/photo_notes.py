"""Photos of a data set that cannot be used, found before the first cell is trained."""

from dataclasses import replace

from lookforward.benchmark.plan import Plan
from lookforward.config.settings import Settings
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.subjects import read_subject
from lookforward.errors import LookforwardError

_READ = ("resolution", "allow_few", "captions", "caption_lines", "crops", "buckets", "augment", "alpha_masks")


def photo_notes(plan: Plan) -> list[str]:
    """A note for each subject whose photos some method cannot use: its cells would fail, one after the other.

    Subjects that the world draws have none.
    """
    ways: dict[tuple[object, ...], Settings] = {}
    for settings in map(plan.settings, plan.methods):
        ways.setdefault(tuple(getattr(settings.data, name) for name in _READ), settings)
    subjects = [one for one in map(plan.subject, plan.subjects) if one.photos is not None]
    problems = [(one.name, next((p for way in ways.values() if (p := _problem(one, way))), "")) for one in subjects]
    return [
        f"the cells of {name} will fail: {problem} Repair them first, or choose other --subjects"
        for name, problem in problems
        if problem
    ]


def _problem(subject: BenchmarkSubject, settings: Settings) -> str:
    """Why a method cannot use the photos of a subject; "" if it can."""
    words = replace(settings.subject, class_noun=subject.class_noun, photos=str(subject.photos))
    try:
        read_subject(words.photos, replace(settings, subject=words))
    except LookforwardError as error:
        return str(error)
    return ""
