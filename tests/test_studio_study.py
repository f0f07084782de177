"""The tab Study without a browser: from runs to a study, its raters' page, answers as they come in, and the report."""

import dataclasses
import importlib
import socket
import sqlite3
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from errors import raises
from lookforward.cli.study import create as create_command
from lookforward.data.prompts import read_prompt_file
from lookforward.studio import drawing, studies
from lookforward.studio.drawing import GridRequest, draw_grid
from lookforward.studio.runner import Runner
from lookforward.studio.serving import Servers, free_port
from lookforward.studio.state import Studio
from lookforward.studio.store import study_key
from lookforward.studio.studies import StudyRequest
from lookforward.studio.tabs.draw import read_form as read_drawing
from lookforward.studio.tabs.study import show_report, show_study, show_table
from lookforward.studio.tabs.study_form import read_form, show_plan
from lookforward.studio.tabs.train import show_queue
from lookforward.studio.watching import runs_table
from lookforward.studio.workspace import Workspace
from lookforward.study.create import plan_study
from lookforward.study.raters import Raters
from lookforward.study.store import StudyFile
from test_studio import MARKUP, make_run, recording
from test_study import PLAN, answer_all, make_study

RUNS = ("teapot-look-forward", "teapot-dreambooth")


@pytest.fixture
def with_runs(with_photos: Studio) -> Studio:
    """A subject with a finished run of two methods, and one that is not finished."""
    for name in RUNS:
        run = make_run(with_photos, name, recipe=name.removeprefix("teapot-"))
        run.export.mkdir()
        (run.export / "lookforward.json").write_text("{}")
    make_run(with_photos, "unfinished", recipe="dreambooth")
    return with_photos


def sleeper(studio: Studio, text: str, status: int | None = None) -> Servers:
    """Servers whose command prints a text and then sleeps, or ends with a status."""
    end = "import time; time.sleep(60)" if status is None else f"raise SystemExit({status})"
    return Servers(studio.workspace, studio.store, [sys.executable, "-c", f"print({text!r}, flush=True); {end}"])


def until(found: Any) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("nothing happened for two minutes")


class TestForm:
    def test_the_command_plans_the_same_study(self, with_runs: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
        module: Any = importlib.import_module("lookforward.cli.main")  # the package's own name is the function
        assert set(studies.finished_runs(with_runs.workspace)) == set(RUNS)
        form: list[Any] = [
            "asked", [*RUNS], ["dreambooth", "look-forward"], f"a {{}} in {MARKUP[:28]}\na {{}}", 2, "x", 4, 1, 2, 7,
        ]  # fmt: skip
        prepared = studies.prepare_study(read_form(*form), with_runs.workspace)
        seen: dict[str, Any] = {}
        monkeypatch.setattr(module, "find_command", lambda *_: recording(seen, create_command))
        monkeypatch.chdir(with_runs.workspace.folder)
        module.main(prepared.words)
        assert seen.pop("output") == Path("asked.sqlite")
        prompts = read_prompt_file(seen.pop("prompts"))
        methods = seen.pop("compare").split(",")
        assert seen.pop("clip", None) is None
        plan, _ = plan_study(seen.pop("runs"), methods, prompts=prompts, **seen)
        assert plan == prepared.plan
        assert (plan.methods, plan.candidates, plan.shown, plan.repeats, plan.seed) == (methods, 4, 1, 2, 7)
        assert prepared.seconds == 2 * 2 * 4 * 0.55
        html = show_plan(prepared)
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html
        assert "lookforward study create runs/teapot-look-forward" in html
        form[5] = "The first one drawn"
        assert studies.prepare_study(read_form(*form), with_runs.workspace).plan.candidates == 1

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"runs": ()}, "run-missing"),
            ({"runs": RUNS[:1]}, "study-methods"),
            ({"runs": (*RUNS, "unfinished")}, "run-unfinished"),
            ({"runs": (RUNS[0], "../secret")}, "studio-name"),
            ({"runs": (RUNS[0], "missing")}, "run-missing"),
            ({"name": "../x"}, "studio-name"),
            ({"name": MARKUP}, "studio-name"),
            ({"name": ""}, "studio-name"),
            ({"name": "link"}, "studio-path"),
            ({"name": "taken"}, "study-differs"),
            ({"name": "other"}, "study-file"),
            ({"methods": ("dreambooth", MARKUP)}, "study-runs-missing"),
            ({"prompts": MARKUP}, "prompt-placeholder"),
            ({"prompts": "# nothing"}, "prompts-empty"),
            ({"prompts": "x" * 100_001}, "prompts-long"),
            ({"prompt_count": -1}, "option-range"),
            ({"repeats": -1}, "option-range"),
            ({"candidates": 0}, "count-too-small"),
            ({"candidates": 10**9}, "count-too-large"),
            ({"seed": -1}, "seed-out-of-range"),
        ],
    )
    def test_what_is_wrong_in_the_form_is_said(self, with_runs: Studio, change: dict[str, Any], code: str) -> None:
        folder = with_runs.workspace.folder
        make_study(folder / "taken.sqlite")
        sqlite3.connect(folder / "other.sqlite").execute("CREATE TABLE x (y)").connection.close()
        (folder / "link.sqlite").symlink_to(folder.parent / "elsewhere.sqlite")
        given: dict[str, Any] = {"name": "study", "runs": RUNS}
        with raises(code):
            studies.create(StudyRequest(**given | change), with_runs)
        assert with_runs.store.jobs() == []

    def test_a_study_waits_in_the_queue_once_and_is_no_run(self, with_runs: Studio) -> None:
        request = StudyRequest("study", RUNS, candidates=1)
        studies.create(request, with_runs)
        with raises("job-twice"):
            studies.create(dataclasses.replace(request, seed=3), with_runs)  # from another browser
        assert "study study" in show_queue(with_runs)
        assert study_key("study") not in [row[0] for row in runs_table(with_runs.workspace, with_runs.store)[1]]
        assert studies.view_study("study", with_runs).state == "waiting"
        assert "waiting" in show_table(with_runs)
        with raises("study-busy"):
            studies.delete("study", with_runs)
        assert with_runs.runner.stop(study_key("study"))
        studies.resume("study", with_runs)
        assert [job.words for job in with_runs.store.jobs("waiting")] == [
            job.words for job in with_runs.store.jobs("stopped")
        ]
        with_runs.runner.stop(study_key("study"))
        studies.delete("study", with_runs)
        assert studies.list_studies(with_runs) == []

    def test_drawing_that_fails_says_why_and_one_that_was_cut_off_goes_on(self, with_runs: Studio) -> None:
        prepared = studies.create(StudyRequest("study", RUNS), with_runs)
        runner = Runner(
            with_runs.workspace, with_runs.store, [sys.executable, "-c", "raise SystemExit('lookforward: no CLIP')"]
        )
        until(lambda: runner.tick() or with_runs.store.jobs("failed"))
        view = studies.view_study("study", with_runs)
        assert (view.state, view.message) == ("failed", "no CLIP")
        StudyFile(with_runs.workspace.study("study")).create(prepared.plan)
        view = studies.view_study("study", with_runs)
        assert (view.images, view.state) == (0, "failed")
        assert "0 of 10 images" in show_study(view)
        with raises("study-unfinished"):
            with_runs.servers.start("study")
        studies.resume("study", with_runs)
        # The studio is killed, and the process ends meanwhile with all images stored: that is no failure
        job = with_runs.store.jobs("waiting")[0]
        with_runs.store.change_job(job.id, state="running", pid=0)
        StudyFile(with_runs.workspace.study("study")).finish([])
        runner.tick()
        assert with_runs.store.jobs("done")
        with raises("study-ready"):
            studies.resume("study", with_runs)


class TestStudies:
    def test_studies_of_the_command_line_are_seen_and_other_files_are_not(self, studio: Studio) -> None:
        folder = studio.workspace.folder
        make_study(folder / "own.sqlite")
        StudyFile(folder / "begun.sqlite").create(PLAN)
        (folder / "damaged.sqlite").write_text(MARKUP * 100)
        sqlite3.connect(folder / "other.sqlite").execute("CREATE TABLE x (y)").connection.close()
        make_study(folder / ".studio" / "hidden.sqlite")
        (folder / "link.sqlite").symlink_to(folder / ".studio" / "hidden.sqlite")
        states = {view.name: view.state for view in studies.list_studies(studio)}
        assert states == {"begun": "unfinished", "damaged": "unreadable", "own": "ready"}
        html = show_table(studio)
        assert "dreambooth, look-forward" in html
        assert "16 of 16" in html
        assert str(folder) not in show_study(studies.view_study("damaged", studio))
        with raises("resume-elsewhere"):
            studies.resume("begun", studio)
        with raises("study-missing"):
            studies.view_study("gone", studio)
        assert not (folder / "gone.sqlite").exists()
        with raises("study-file"):
            studies.delete("other", studio)

    def test_answers_come_in_and_are_reported(self, studio: Studio) -> None:
        plan = dataclasses.replace(
            PLAN, methods=["<b>one", "two"], prompts={MARKUP: [f"a {{}} {MARKUP[:28]}"] * 1 + ["a {}"]}
        )
        study = StudyFile(studio.workspace.study("study"))
        study.create(plan)
        study.finish([(MARKUP, prompt, prompt, "<b>one", "two") for prompt in plan.prompts[MARKUP]])
        assert "no answers to count" in show_report(studio, "study")
        raters = Raters(study)
        key = raters.begin()
        before = show_study(studies.view_study("study", studio))
        assert "0 answers of 1 raters, 0 of them done" in before
        raters.answer(key, 1, "left", "similar")
        view = studies.view_study("study", studio)
        assert (view.answers, view.done, view.raters[0].places) == (1, 0, 3)
        assert show_study(view) != before
        assert "1 of 3" in show_study(view)
        raters.answer(key, 2, "left", "similar")
        raters.answer(key, 3, "left", "similar")
        assert studies.view_study("study", studio).done == 1
        html = show_table(studio) + show_study(studies.view_study("study", studio)) + show_report(studio, "study")
        assert "55.1%" in html
        assert "&lt;b&gt;one or two" in html
        assert "<b>one" not in html
        assert "<img" not in html
        assert 'href="/study/study/answers.csv"' in html
        rows = studies.download("study", "answers.csv", studio.workspace).text.splitlines()
        assert len(rows) == 1 + 3
        assert "55.1%" in studies.download("study", "report.html", studio.workspace).text
        assert "55.1" in studies.download("study", "report.md", studio.workspace).text
        csv = "answers.csv"
        wrong = {("study", "plan"): "study-missing", ("..", csv): "studio-name", ("x", csv): "study-missing"}
        for (name, file), code in wrong.items():
            with raises(code):
                studies.download(name, file, studio.workspace)

    def test_downloads_and_the_page_are_behind_the_guard(self, studio: Studio) -> None:
        pytest.importorskip("gradio", reason="needs the extra `studio`")
        testclient = pytest.importorskip("starlette.testclient")
        from lookforward.studio.app import build_app

        answer_all(make_study(studio.workspace.study("study")))
        client = testclient.TestClient(build_app(studio), base_url="http://127.0.0.1:7860")
        answer = client.get("/study/study/answers.csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="study-answers.csv"'
        assert len(answer.text.splitlines()) == 1 + 11
        for path in ("none/answers.csv", "study/settings.toml", "..%2fstudy/answers.csv", "%0d%0ax/answers.csv"):
            assert client.get(f"/study/{path}").status_code == 404
        assert client.get("/study/study/answers.csv", headers={"Host": "evil.example"}).status_code == 403
        closed = testclient.TestClient(build_app(studio, "secret"), base_url="http://example.org")
        assert closed.get("/study/study/answers.csv").status_code == 403

    def test_a_study_that_is_shown_is_not_deleted(self, studio: Studio) -> None:
        answer_all(make_study(studio.workspace.study("study")))
        shown = dataclasses.replace(studio, servers=sleeper(studio, "Open http://127.0.0.1:1/"))
        shown.servers.start("study")
        try:
            with raises("study-busy"):
                studies.delete("study", shown)
        finally:
            shown.servers.close()
        studies.delete("study", shown)
        assert studies.list_studies(shown) == []
        assert not studio.workspace.study("study").exists()


class TestServing:
    def test_raters_open_a_page_of_its_own(self, studio: Studio) -> None:
        pytest.importorskip("uvicorn", reason="needs the extra `study`")
        study = make_study(studio.workspace.study("study"))
        taken = socket.create_server(("127.0.0.1", free_port("127.0.0.1")))
        port = taken.getsockname()[1]
        try:
            studio.servers.start("study")
            address = until(lambda: (found := studio.servers.find("study")) and (found.address or found.problem))
            assert address.startswith("http://127.0.0.1:")
            assert not address.endswith(f":{port}/")
            assert "Only on this machine" in show_study(studies.view_study("study", studio))
            page = until(lambda: _get(address))
            assert "Which image is better" in page
            with raises("study-served"):
                studio.servers.start("study")
            answer_all(study)
            assert studies.view_study("study", studio).answers == 11
        finally:
            studio.servers.close()
            taken.close()
        assert studio.servers.find("study") is None
        assert not _get(address)
        assert not studio.servers.stop("study")

    def test_the_network_has_a_token_and_a_killed_studio_finds_its_server(self, studio: Studio) -> None:
        make_study(studio.workspace.study("study"))
        first = sleeper(studio, "Open http://0.0.0.0:7999/?token=abc")
        first.start("study", public=True)
        serving = until(lambda: (one := first.find("study")) and one.address and one)
        assert serving.public or "127.0.0.1" in serving.address  # a machine without a network has no other address
        assert serving.address.endswith(":7999/?token=abc")
        assert "0.0.0.0" not in serving.address
        assert (first.log("study").stat().st_mode & 0o077) == 0
        second = sleeper(studio, "")
        assert second.find("study") == serving
        assert second.stop("study")
        assert second.find("study") is None

    def test_two_that_start_at_once_have_ports_of_their_own(self, studio: Studio) -> None:
        program = "import sys, time; print('Open http://127.0.0.1', sys.argv[-1], flush=True); time.sleep(60)"
        servers = Servers(studio.workspace, studio.store, [sys.executable, "-c", program])
        for name in ("a", "b"):
            make_study(studio.workspace.study(name))
            servers.start(name)
        try:
            ports = {until(lambda n=name: "--port=" in (log := servers.log(n).read_text()) and log) for name in "ab"}
            assert len(ports) == 2
        finally:
            servers.close()

    def test_a_server_that_ends_says_why(self, studio: Studio) -> None:
        make_study(studio.workspace.study("study"))
        servers = sleeper(studio, "lookforward: the port is taken", 1)
        servers.start("study")
        found = until(lambda: (one := servers.find("study")) and one.problem and one)
        assert found.problem == "the port is taken"
        view = studies.view_study("study", dataclasses.replace(studio, servers=servers))
        assert "the port is taken" in show_study(view)
        servers.close()
        assert servers.find("study") is None
        for name, code in (("../x", "studio-name"), ("none", "study-missing"), (MARKUP, "studio-name")):
            with raises(code):
                servers.start(name)


def test_the_watermark_is_on_unless_it_is_switched_off(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(drawing, "marked", lambda images, wanted: asked.append(wanted) or (images, wanted))
    monkeypatch.setattr(drawing, "watermark_notes", lambda _, wanted: ("missing",) if wanted else ())
    workspace = Workspace(tmp_path, (str(tiny_model),))
    form = [[str(tiny_model)], "a dog", "0", "1", "1", [], "", 0, "prompt", "source"]
    for given, on in (([], True), ([True], True), ([False], False)):
        request = read_drawing(*form, *given)
        assert request == dataclasses.replace(request, watermark=on)
        *_, grid = draw_grid(request, workspace)
        assert asked.pop() is on
        assert grid.cells[0].metadata.watermark is on
        assert grid.notes == (("missing",) if on else ())
    assert GridRequest(("x",), ("y",)).watermark


def _get(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ""
