"""From the form of the tab Study to a command of `lookforward study create`, and what there is of every study."""

import hashlib
from dataclasses import dataclass

from lookforward import __version__
from lookforward.benchmark.estimate import assumed_speed
from lookforward.data.prompts import read_prompt_file
from lookforward.errors import LookforwardError
from lookforward.files import write_text, writing
from lookforward.report.blocks import Section
from lookforward.report.render import html_page, markdown_page
from lookforward.runs.folder import open_run
from lookforward.studio.serving import Serving
from lookforward.studio.state import Studio
from lookforward.studio.store import study_key
from lookforward.studio.workspace import Workspace, check_name
from lookforward.study.create import method_of, plan_study
from lookforward.study.findings import answers_csv, study_sections
from lookforward.study.raters import Progress, Raters
from lookforward.study.store import StudyFile, StudyPlan

_TITLE = "Blind study"
_LONGEST = 100_000  # characters of prompts
_OPEN = {"waiting": "waiting", "running": "drawing", "stopping": "stopping"}


@dataclass(frozen=True)
class StudyRequest:
    """What the form says. methods: those to compare, all of the runs' if empty. prompts: one a line, "" for the
    benchmark's. candidates: images of each prompt, of which the best by CLIP-T is kept; 1 keeps the first."""

    name: str
    runs: tuple[str, ...]
    methods: tuple[str, ...] = ()
    prompts: str = ""
    prompt_count: int = 5
    candidates: int = 8
    shown: int = 0
    repeats: int = 3
    seed: int = 0


@dataclass(frozen=True)
class PreparedStudy:
    """A study that can be drawn. words: of the command. seconds: about how long it takes."""

    name: str
    plan: StudyPlan
    words: list[str]
    seconds: float


@dataclass(frozen=True)
class StudyView:
    """A study at this moment.

    state: "ready", "unfinished", or of its job "waiting", "drawing", "stopping", "stopped" or "failed", or
    "unreadable". images: stored so far. plan: None while nothing is known of it.
    """

    name: str
    state: str
    message: str = ""
    plan: StudyPlan | None = None
    images: int = 0
    raters: tuple[Progress, ...] = ()
    serving: Serving | None = None

    @property
    def answers(self) -> int:
        return sum(one.answered for one in self.raters)

    @property
    def done(self) -> int:
        """How many raters have answered everything."""
        return sum(one.answered == one.places for one in self.raters)


def finished_runs(workspace: Workspace) -> dict[str, str]:
    """The runs that a study can take, and the method of each."""
    found = {}
    for name in workspace.run_names():
        try:
            run = open_run(workspace.run(name))
        except LookforwardError:
            continue
        if run.finished and not run.settings.subject.others:
            found[name] = method_of(run)
    return found


def prepare_study(request: StudyRequest, workspace: Workspace) -> PreparedStudy:
    """Check everything that `lookforward study create` checks before it draws; keeps the prompts for it.

    Raises:
        LookforwardError: the runs do not belong together, something in the form is wrong, or the name is taken.
    """
    name = check_name(request.name, "name of the study")
    path = workspace.study(name)
    if not request.runs:
        raise LookforwardError("Choose finished runs first: of each subject, one of every method.", "run-missing")
    folders = [workspace.run(run) for run in request.runs]
    numbers = {
        "prompt-count": request.prompt_count, "candidates": request.candidates, "shown": request.shown,
        "repeats": request.repeats, "seed": request.seed,
    }  # fmt: skip
    words = ["study", "create", *(f"{workspace.runs.name}/{one.name}" for one in folders)]
    prompts: list[str] = []
    if request.prompts.strip():
        if len(request.prompts) > _LONGEST:
            raise LookforwardError(f"The prompts have more than {_LONGEST} characters: give fewer.", "prompts-long")
        digest = hashlib.sha256(request.prompts.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        file = workspace.own / "prompts" / f"{digest}.txt"  # a name for each content: two may ask at once
        if not file.is_file():
            write_text(file, request.prompts)
        prompts = read_prompt_file(file)
        words.append(f"--prompts={file.relative_to(workspace.folder)}")
    chosen = tuple(dict.fromkeys(request.methods))
    plan, found = plan_study(
        folders, chosen, prompts=prompts, **{key.replace("-", "_"): value for key, value in numbers.items()}
    )
    if StudyFile(path).begun:
        StudyFile(path).require_same(plan)
    words += [f"--compare={','.join(chosen)}"] if chosen else []
    words += [f"--{key}={value}" for key, value in numbers.items()]
    images = [plan.candidates * len(plan.prompts[one.subject]) for one in found]
    seconds = [assumed_speed(one.run.settings.model.name)[1] for one in found]
    spent = sum(count * each for count, each in zip(images, seconds, strict=True))
    return PreparedStudy(name, plan, [*words, f"--output={path.name}"], spent)


def create(request: StudyRequest, studio: Studio) -> PreparedStudy:
    """Put the drawing of a study into the queue.

    Raises:
        LookforwardError: as `prepare_study`, or it is in the queue already.
    """
    prepared = prepare_study(request, studio.workspace)
    studio.store.add_job(study_key(prepared.name), prepared.words)
    return prepared


def resume(name: str, studio: Studio) -> None:
    """Go on with drawing a study that was stopped or failed.

    Raises:
        LookforwardError: it has all its images, is in the queue, or was begun elsewhere.
    """
    job = studio.store.last_job(study_key(name))
    if view_study(name, studio).state == "ready":
        raise LookforwardError(f"{name} has all its images already.", "study-ready")
    if job is None:
        raise LookforwardError(
            f"{name} was begun with a command: give the same `lookforward study create` again.", "resume-elsewhere"
        )
    studio.store.add_job(study_key(name), job.words)


def list_studies(studio: Studio) -> list[StudyView]:
    """Every study of the folder, and those that are still to be drawn. SQLite files of other programs are left out."""
    jobs = {job.study: job.state for job in studio.store.jobs() if job.study}
    to_draw = [name for name, state in jobs.items() if state != "done"]
    names = [name for name in studio.workspace.study_names() if not StudyFile(studio.workspace.study(name)).is_other]
    return [view_study(name, studio) for name in sorted({*to_draw, *names})]


def study_names(studio: Studio) -> list[str]:
    """The names of `list_studies`."""
    return [view.name for view in list_studies(studio)]


def view_study(name: str, studio: Studio) -> StudyView:
    """What is known of a study.

    Raises:
        LookforwardError: there is neither a file of that name nor a job for one.
    """
    job, file = studio.store.last_job(study_key(name)), StudyFile(studio.workspace.study(name))
    state, message = (_OPEN.get(job.state, job.state), job.message) if job is not None else ("unfinished", "")
    if not file.begun:
        if job is None:
            raise LookforwardError(f"There is no study {name}: reload the page.", "study-missing")
        return StudyView(name, state if state != "done" else "unfinished", message)
    try:
        plan, (images, ready) = file.plan(), file.count_images()
        raters = tuple(Raters(file).progress())
    except LookforwardError as error:
        return StudyView(name, "unreadable", studio.workspace.relative(str(error)))
    if ready:
        state, message = "ready", ""
    elif state == "done":
        state = "unfinished"
    return StudyView(name, state, message, plan, images, raters, studio.servers.find(name))


def require_idle(name: str, studio: Studio) -> StudyView:
    """A study that may be deleted. Raises LookforwardError if it is drawn, waits, or is shown to raters."""
    view = view_study(name, studio)
    if view.state in _OPEN.values() or (view.serving is not None and not view.serving.problem):
        raise LookforwardError(f"{name} is in use: stop it first.", "study-busy")
    return view


def delete(name: str, studio: Studio) -> None:
    """Delete a study with its answers. Raises LookforwardError as `require_idle`, or where the file cannot go."""
    require_idle(name, studio)
    path = studio.workspace.study(name)
    if path.is_file() and StudyFile(path).is_other:
        raise LookforwardError(f"{path.name} is no study: delete it elsewhere.", "study-file")
    with writing(path, "It is still there: check its permissions."):
        for file in (path, path.with_name(f"{path.name}-journal")):
            file.unlink(missing_ok=True)
    studio.servers.stop(name)
    studio.store.forget_run(study_key(name))


def report(name: str, workspace: Workspace) -> list[Section]:
    """The report of a study, as `lookforward study report` writes it. Raises LookforwardError as `require_ready`."""
    file = StudyFile(workspace.study(name))
    return study_sections(file.require_ready(), Raters(file).answers())


@dataclass(frozen=True)
class Download:
    """A file to download: text, and the kind that a browser takes it for."""

    text: str
    kind: str


def download(name: str, file: str, workspace: Workspace) -> Download:
    """What `lookforward study report` writes: "answers.csv", "report.html" or "report.md".

    Raises:
        LookforwardError: there is no such study or file, or the study does not have all its images.
    """
    if file == "answers.csv":
        study = StudyFile(workspace.study(name))
        study.require_ready()
        return Download(answers_csv(Raters(study).answers()), "text/csv")
    footer = f"Written by lookforward {__version__}."
    if file == "report.html":
        return Download(html_page(_TITLE, report(name, workspace), footer), "text/html")
    if file == "report.md":
        return Download(markdown_page(_TITLE, report(name, workspace), footer), "text/markdown")
    raise LookforwardError("A study has answers.csv, report.html and report.md.", "study-missing")
