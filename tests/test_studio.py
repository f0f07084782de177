"""The studio without a browser: its folder, photos, queue, forms, grids and guard; and that it opens no connection."""

import functools
import importlib
import json
import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from conftest import save_image
from errors import raises
from lookforward.cli.train import train
from lookforward.config.reading import flatten, with_values
from lookforward.config.recipe import load_settings
from lookforward.exports.png import PngMetadata, read_metadata
from lookforward.runs.folder import Run
from lookforward.runs.step_choice import Evaluation, write_evaluations
from lookforward.studio import masks, photos
from lookforward.studio.drawing import GridRequest, draw_grid, numbers
from lookforward.studio.processes import last_words
from lookforward.studio.runner import Runner
from lookforward.studio.state import Studio, open_studio
from lookforward.studio.store import Store
from lookforward.studio.subjects import CONSENT, add, remember, remember_noun, show_photos
from lookforward.studio.tabs.draw import list_sources, read_back, show_grid, show_settings, source_of
from lookforward.studio.tabs.runs import delete_run, queue_score
from lookforward.studio.tabs.train import resume_run, show_outlook, show_queue
from lookforward.studio.tabs.watch import show_run, show_sample
from lookforward.studio.training import Request, estimate_time, model_notes, prepare, resume_words
from lookforward.studio.watching import runs_table, view_run
from lookforward.studio.workspace import Workspace

MARKUP = "<img src=x onerror=alert(1)>{{7*7}}${7*7}"


def make_run(studio: Studio, name: str = "teapot-look-forward", **given: Any) -> Run:
    """A run folder as `train` leaves it when it is stopped after three steps."""
    request = Request("teapot", "teapot", output=name, **given)
    run = Run(studio.workspace.run(name), prepare(request, studio.workspace, studio.store).settings)
    run.begin(["0" * 64])
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 1 / step, "noise_loss": 0.5, "seconds": 0.25})
    write_evaluations(run.evaluations, [Evaluation(s, 0.1 * s, 0.3, 0.5) for s in (0, 2)])
    run.samples.mkdir()
    for step in (1, 2):
        save_image(run.samples / f"step-{step:06d}.png")
    return run


class TestFolder:
    @pytest.mark.parametrize(
        "name", ["..", "../x", "/etc", "a/b", ".hidden", "", "a\0b", "x" * 81, "a b", MARKUP, "-x"]
    )
    def test_no_name_leaves_it(self, studio: Studio, name: str) -> None:
        for find in (studio.workspace.subject, studio.workspace.run):
            with raises("studio-name"):
                find(name)
        assert studio.workspace.picture(name, "samples", "step-1.png") is None
        assert studio.workspace.picture("-", "images", name) is None

    def test_links_do_not_lead_out(self, studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        save_image(elsewhere / "secret.png")
        (studio.workspace.photos / "link").symlink_to(elsewhere)
        with raises("studio-path"):
            studio.workspace.subject("link")
        assert studio.workspace.subjects() == []
        samples = studio.workspace.run("a") / "samples"
        samples.mkdir(parents=True)
        (samples / "secret.png").symlink_to(elsewhere / "secret.png")
        save_image(samples / "own.png")
        assert studio.workspace.picture("a", "samples", "secret.png") is None
        assert studio.workspace.picture("a", "samples", "own.png") == samples / "own.png"
        samples.rename(samples.with_name("moved"))
        samples.symlink_to(elsewhere)
        assert studio.workspace.picture("a", "samples", "secret.png") is None

    def test_only_images_of_runs_can_be_loaded(self, studio: Studio) -> None:
        folder = studio.workspace.run("a") / "samples"
        folder.mkdir(parents=True)
        (folder / "x.toml").write_text("secret")
        assert studio.workspace.picture("a", "samples", "x.toml") is None
        assert studio.workspace.picture("a", "checkpoints", "x.png") is None


class TestPhotos:
    def test_photos_are_taken_and_what_is_none_is_named(self, studio: Studio, tmp_path: Path, photos: Path) -> None:
        uploads = tmp_path / "uploads"
        uploads.mkdir()
        files = [uploads / "Ünï côdé.png", uploads / "text.jpg", uploads / "small.png", uploads / "again.png"]
        files[0].write_bytes((photos / "00.png").read_bytes())
        files[1].write_text(MARKUP)
        save_image(files[2], size=8)
        files[3].write_bytes((photos / "00.png").read_bytes())
        html = add(studio, "pot", [str(path) for path in files])
        assert "Added 1 photo." in html
        assert "text.jpg is not an image" in html
        assert "again.png is there already" in html
        assert [path.name for path in studio.workspace.subject("pot").iterdir()] == ["Uni-code.png"]
        assert list(uploads.iterdir()) == []

    def test_a_hundred_odd_uploads_break_nothing(self, studio: Studio, tmp_path: Path) -> None:
        rng, real = np.random.default_rng(0), save_image(tmp_path / "real.png").read_bytes()
        files = []
        for i in range(100):
            data = bytearray(real[: rng.integers(0, len(real))] if i % 2 else rng.bytes(200))
            path = tmp_path / f"{i}.{('png', 'jpg', 'gif', 'webp', 'txt', 'tif')[i % 6]}"
            path.write_bytes(data)
            files.append(path)
        added, refused = photos.add_photos(studio.workspace.subject("odd"), files)
        assert added == []
        assert len(refused) == 100

    def test_each_photo_is_shown_with_its_part_and_problems(self, with_photos: Studio) -> None:
        folder = with_photos.workspace.subject("teapot")
        save_image(folder / "wide.png", size=64)
        Image.open(folder / "wide.png").resize((128, 48)).save(folder / "wide.png")
        (folder / "bad.jpg").write_text("x")
        (folder / "00.txt").write_text(MARKUP.replace("{", "").replace("}", ""))
        html, names = show_photos(with_photos, "teapot", 64, shapes=False)
        assert "wide.png" in names
        assert "128×48, central square" in html
        assert "is not an image" in html
        assert "<img src=x" not in html
        assert "128×48, bucket" in show_photos(with_photos, "teapot", 64, shapes=True)[0]
        assert not photos.look(folder, 64).ready
        photos.remove_photo(folder, "bad.jpg")
        assert "is smaller" not in html
        assert any("central square" in n for view in photos.look(folder, 64).photos for n in view.notes)

    def test_captions_are_written_and_checked(self, with_photos: Studio) -> None:
        folder = with_photos.workspace.subject("teapot")
        photos.set_caption(folder, "00.png", "a photo of {}\n on  a table")
        assert (folder / "00.txt").read_text() == "a photo of {} on a table\n"
        assert photos.read_caption(folder, "00.png") == "a photo of {} on a table"
        with raises("caption-brace"):
            photos.set_caption(folder, "00.png", "a {photo}")
        assert photos.read_caption(folder, "00.png") == "a photo of {} on a table"
        photos.set_caption(folder, "00.png", " ")
        assert not (folder / "00.txt").exists()
        with raises("photo-missing"):
            photos.set_caption(folder, "../00.png", "x")

    def test_masks_are_painted_uploaded_and_checked(self, with_photos: Studio, tmp_path: Path) -> None:
        folder = with_photos.workspace.subject("teapot")
        layer = np.zeros((128, 128, 4), np.uint8)
        with raises("mask-empty"):
            masks.painted_mask(folder, "00.png", [layer])
        layer[32:96, 32:96, 3] = 255
        masks.painted_mask(folder, "00.png", [layer])
        painted = np.asarray(Image.open(folder / "00.mask.png"))
        assert painted.shape == (64, 64)
        assert painted[16:48, 16:48].min() == 255
        assert painted.astype(bool).sum() == 32 * 32
        with raises("mask-size", "8x8"):
            masks.upload_mask(folder, "00.png", save_image(tmp_path / "m.png", size=8))
        assert np.asarray(Image.open(folder / "00.mask.png")).shape == (64, 64)
        photos.remove_photo(folder, "00.png")
        assert not list(folder.glob("00.*"))

    def test_the_canvas_is_the_whole_upright_photo(self, with_photos: Studio) -> None:
        folder = with_photos.workspace.subject("teapot")
        Image.open(folder / "00.png").resize((128, 64)).save(folder / "00.png")
        assert masks.canvas(folder, "00.png").size == (640, 320)


class TestTraining:
    def test_nothing_is_trained_without_consent(self, with_photos: Studio) -> None:
        request = Request("teapot", "teapot")
        assert prepare(request, with_photos.workspace, with_photos.store).run == "teapot-look-forward"
        record = with_photos.store.subject("teapot")
        assert record.consent == CONSENT
        assert record.consented.startswith("20")
        remember_noun(with_photos, "teapot", "pot")
        assert with_photos.store.subject("teapot") == replace(record, class_noun="pot")
        remember(with_photos, "teapot", "teapot", agreed=False)
        with raises("consent"):
            prepare(request, with_photos.workspace, with_photos.store)

    def test_the_command_gives_the_same_settings(self, with_photos: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
        module: Any = importlib.import_module("lookforward.cli.main")  # the package's own name is the function
        request = Request(
            "teapot", "teapot", "best", "lora", steps=40, seed=3, identifier="-x",
            more="data.flip = true\ncritic.weight = 0.5\ndata.describe = false",
        )  # fmt: skip
        prepared = prepare(request, with_photos.workspace, with_photos.store)
        seen: dict[str, Any] = {}
        monkeypatch.setattr(module, "find_command", lambda *_: recording(seen))
        module.main(prepared.words)
        assert str(seen["photos"]) == "photos/teapot"
        assert str(seen["output"]) == "runs/teapot-best-lora"
        assert load_settings(seen["recipe"], flatten(seen["settings"])) == prepared.settings
        assert prepared.settings.subject.identifier == "-x"
        assert prepared.settings.evaluation.every == 5  # 40 steps, measured eight times

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"model": "/etc"}, "model-unknown"),
            ({"recipe": "/etc/passwd.toml"}, "recipe-missing"),
            ({"adapter": "none"}, "setting-choice"),
            ({"output": "../x"}, "studio-name"),
            ({"subject": "../x"}, "studio-name"),
            ({"class_noun": ""}, "words-empty"),
            ({"steps": -1}, "setting-range"),
            ({"more": 'data.class_folder = "/etc"'}, "setting-of-files"),
            ({"more": 'objective.reward = "os:system"'}, "setting-of-files"),
            ({"more": "critic.wieght = 1"}, "setting-unknown"),
            ({"more": "run.steps = 3", "steps": 4}, "setting-twice"),
            ({"more": MARKUP}, "toml-damaged"),
        ],
    )
    def test_what_is_wrong_in_the_form_is_said(self, with_photos: Studio, change: dict[str, Any], code: str) -> None:
        given: dict[str, Any] = {"subject": "teapot", "class_noun": "teapot"}
        with raises(code):
            prepare(Request(**given | change), *_of(with_photos))

    def test_the_estimate_shows_memory_time_and_command(self, with_photos: Studio) -> None:
        html = show_outlook(with_photos, Request("teapot", MARKUP, steps=100))
        assert "optimizer" in html
        assert "is assumed" in html
        assert "<img src=x" not in html
        assert "lookforward train photos/teapot" in html

    def test_each_model_is_described_without_asking_the_hub(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked"))
        notes = model_notes(["toybox", str(tiny_model), "somebody/model-x"])
        assert "64 pixels" in notes["toybox"]
        assert "Stable Diffusion 1 and 2" in notes[str(tiny_model)]
        assert "hub" in notes["somebody/model-x"]

    def test_time_is_measured_on_runs_that_are_alike(self, with_photos: Studio) -> None:
        settings = prepare(Request("teapot", "teapot", measure=False), *_of(with_photos)).settings
        assumed = estimate_time(settings, with_photos.workspace)
        make_run(with_photos)
        measured = estimate_time(settings, with_photos.workspace)
        assert measured.seconds - assumed.seconds == pytest.approx(settings.run.steps * (0.25 - 0.16))
        assert "teapot-look-forward" in measured.source

    def test_a_run_begun_elsewhere_can_be_resumed(self, with_photos: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(with_photos.workspace.folder)
        prepared = prepare(Request("teapot", "teapot", adapter="lora", steps=9, measure=False), *_of(with_photos))
        begun = Run(Path("runs/mine"), with_values(prepared.settings, {"subject.photos": "photos/teapot"}))
        words = resume_words(begun, with_photos.workspace)
        assert words[:4] == ["train", "photos/teapot", "--recipe=look-forward", "--output=runs/mine"]
        assert set(words[4:]) >= {"--adapter.name=lora", "--run.steps=9"}
        elsewhere = Run(Path("runs/mine"), with_values(prepared.settings, {"subject.photos": "/somewhere"}))
        with raises("resume-elsewhere"):
            resume_words(elsewhere, with_photos.workspace)


class TestQueue:
    """A queue whose command is a small program in place of `lookforward`."""

    def runner(self, studio: Studio, program: str) -> Runner:
        return Runner(studio.workspace, studio.store, [sys.executable, "-c", program])

    def until(self, runner: Runner, run: str, *states: str) -> str:
        for _ in range(400):
            runner.tick()
            job = runner.store.last_job(run)
            if job is not None and job.state in states:
                return job.state
            time.sleep(0.05)
        raise AssertionError(f"{run} is {runner.store.last_job(run)}")

    def test_runs_follow_one_another(self, studio: Studio) -> None:
        code = "import sys, pathlib; pathlib.Path('order').open('a').write(sys.argv[1]); sys.exit(int(sys.argv[2]))"
        runner = self.runner(studio, f"print('lookforward: it broke'); {code}")
        for name, status in (("a", "0"), ("b", "2"), ("c", "0")):
            studio.store.add_job(name, [name, status])
        with raises("job-twice"):
            studio.store.add_job("c", ["c", "0"])
        self.until(runner, "c", "done")
        assert (studio.workspace.folder / "order").read_text() == "abc"
        failed = studio.store.last_job("b")
        assert failed is not None
        assert (failed.state, failed.message) == ("failed", "it broke")
        assert "it broke" in show_queue(studio)

    def test_a_run_is_stopped_by_sigterm_and_a_waiting_one_leaves(self, studio: Studio) -> None:
        runner = self.runner(studio, "import time; time.sleep(60)")
        studio.store.add_job("a", ["train"])
        studio.store.add_job("b", ["train"])
        self.until(runner, "a", "running")
        assert runner.stop("b")
        assert runner.stop("a")
        assert self.until(runner, "a", "stopped") == "stopped"
        assert not runner.stop("a")
        assert not runner.stop("nobody")
        assert [job.state for job in studio.store.jobs()] == ["stopped", "stopped"]

    def test_a_killed_studio_finds_its_run_again(self, studio: Studio) -> None:
        first = self.runner(studio, "import time; time.sleep(60)")
        studio.store.add_job("a", ["train"])
        self.until(first, "a", "running")
        job = studio.store.last_job("a")
        assert job is not None
        first._children.clear()  # as if the studio were another process
        second = self.runner(studio, "raise SystemExit(0)")
        second.tick()
        assert studio.store.last_job("a") == job
        process = psutil.Process(job.pid)
        process.kill()
        process.wait()
        assert self.until(second, "a", "done") == "done"  # started again, by the second one's program

    def test_another_process_with_the_number_is_not_taken_for_it(self, studio: Studio) -> None:
        number = studio.store.add_job("a", ["train"])
        studio.store.change_job(number, state="running", pid=os.getpid(), born=1.0)
        runner = self.runner(studio, "raise SystemExit(0)")
        assert self.until(runner, "a", "done") == "done"

    def test_closing_saves_and_the_queue_goes_on_later(self, studio: Studio) -> None:
        runner = self.runner(studio, "import time; time.sleep(60)")
        studio.store.add_job("a", ["train"])
        runner.start()
        with raises("studio-locked"):
            self.runner(studio, "").start()
        deadline = time.monotonic() + 20
        while studio.store.jobs("waiting") and time.monotonic() < deadline:
            time.sleep(0.05)
        runner.close()
        assert [job.state for job in Store(studio.store.path).jobs()] == ["waiting"]
        self.runner(studio, "").start()

    def test_last_words(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("x\nlookforward: no photos.\nTraceback\n")
        assert last_words(tmp_path / "log") == "no photos."
        (tmp_path / "dots").write_text("8 images\n...lookforward: the disk is full.\n..")
        assert last_words(tmp_path / "dots") == "the disk is full."
        assert last_words(tmp_path / "none") == "It wrote no log."


class TestWatching:
    def test_a_run_is_shown_with_its_curves_and_samples(self, with_photos: Studio) -> None:
        make_run(with_photos)
        view = view_run("teapot-look-forward", *_of(with_photos))
        assert (view.state, view.step, [step for step, _ in view.samples]) == ("stopped", 3, [1, 2])
        html = show_run(view)
        assert "<svg" in html
        assert "Identity went from 0.000 to 0.200" in html
        assert "currentColor" in html
        assert "/picture/teapot-look-forward/samples/step-000002.png" in show_sample(view, 9)

    def test_a_run_of_the_command_line_is_seen_at_work(self, with_photos: Studio) -> None:
        run = make_run(with_photos)
        with run.hold():
            assert view_run("teapot-look-forward", *_of(with_photos)).state == "training"
            with raises("run-busy"):
                delete_run(with_photos, "teapot-look-forward")

    def test_damaged_runs_stand_in_the_table(self, with_photos: Studio) -> None:
        run = make_run(with_photos)
        (run.folder / "scores.json").write_text(json.dumps({"means": {"dino": 0.5, MARKUP: 0.1}}))
        damaged = with_photos.workspace.run("damaged")
        damaged.mkdir()
        (damaged / "settings.toml").write_text(MARKUP)
        headers, rows = runs_table(*_of(with_photos))
        assert "dino" in headers
        assert sorted(row[0] for row in rows) == ["damaged", "teapot-look-forward"]
        assert {row[1] for row in rows} == {"unreadable", "stopped"}

    def test_runs_are_deleted_scored_and_resumed_only_where_that_makes_sense(self, with_photos: Studio) -> None:
        make_run(with_photos)
        with raises("run-unfinished"):
            queue_score(with_photos, "teapot-look-forward")
        with_photos.store.add_job("teapot-look-forward", ["train", "x"])
        with raises("job-twice"):
            resume_run(with_photos, "teapot-look-forward")
        with raises("run-busy"):
            delete_run(with_photos, "teapot-look-forward")
        with_photos.runner.stop("teapot-look-forward")
        assert "waiting" in resume_run(with_photos, "teapot-look-forward")
        with_photos.runner.stop("teapot-look-forward")
        delete_run(with_photos, "teapot-look-forward")
        assert not with_photos.workspace.run("teapot-look-forward").exists()
        with raises("studio-name"):
            delete_run(with_photos, "../photos")


class TestDrawing:
    def test_a_grid_of_prompts_and_models_keeps_its_settings(self, tmp_path: Path, tiny_model: Path) -> None:
        studio = open_studio(Workspace(tmp_path, (str(tiny_model),)))
        request = GridRequest(
            (str(tiny_model),), ("a dog", MARKUP), (0, 1), (1.0,), (2,), rows="prompt", columns="seed"
        )
        *_, grid = draw_grid(request, studio.workspace)
        assert [cell.place for cell in grid.cells] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        html = show_grid(grid)
        assert html.count('<img src="/picture/') == 4
        assert "<img src=x" not in html
        path = studio.workspace.picture("-", "images", grid.cells[3].file)
        assert path is not None
        assert read_metadata(path) == grid.cells[3].metadata
        assert (grid.cells[3].metadata.seed, grid.cells[3].metadata.prompt) == (1, MARKUP)
        copy = tmp_path / "copy.png"
        copy.write_bytes(path.read_bytes())
        assert "<img src=x" not in show_settings(read_back(copy))
        assert not copy.exists()
        again = list(draw_grid(request, studio.workspace))[-1]
        assert [cell.file for cell in again.cells] == [cell.file for cell in grid.cells]
        assert len(list(studio.workspace.images.glob("*.png"))) == 5
        assert list(list_sources(studio).values()) == [str(tiny_model)]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"sources": ()}, "source-missing"),
            ({"prompts": (" ",)}, "prompt-missing"),
            ({"rows": "source"}, "grid-variables"),
            ({"rows": "x"}, "grid-variables"),
            ({"seeds": tuple(range(65)), "rows": "seed"}, "count-too-large"),
            ({"seeds": (-1,)}, "seed-out-of-range"),
            ({"guidance": (0.5,)}, "guidance-range"),
            ({"sources": ("/etc",)}, "studio-name"),
            ({"sources": ("a/../../etc",)}, "studio-path"),
            ({"sources": ("a/exports/../checkpoints",)}, "studio-path"),
            ({"sources": ("missing",)}, "run-missing"),
        ],
    )
    def test_what_cannot_be_drawn_is_said(self, studio: Studio, change: dict[str, Any], code: str) -> None:
        given: dict[str, Any] = {"sources": ("toybox",), "prompts": ("a dog",)}
        request = GridRequest(**given | change)
        with raises(code):
            list(draw_grid(request, studio.workspace))

    def test_numbers(self) -> None:
        assert numbers("0-2, 7 7", int, "Seeds") == (0, 1, 2, 7)
        assert numbers("1.5 3", float, "Guidance") == (1.5, 3.0)
        for text in ("x", "1-", "0-999999999", MARKUP):
            with raises("number"):
                numbers(text, int, "Seeds")

    def test_an_image_finds_what_drew_it(self) -> None:
        drawn = PngMetadata("a dog", 0, 4, 2.0, "ddim", 64, "toybox", "0", run="dog-best")
        known = ["dog-best", "dog-best/exports/step-000100", "toybox", "models/mine"]
        assert source_of(drawn, known) == "dog-best"
        assert source_of(replace(drawn, run="dog-best-step-000100"), known) == "dog-best/exports/step-000100"
        assert source_of(replace(drawn, run="cat"), known) == ""
        assert source_of(replace(drawn, run="", model="toybox"), known) == "toybox"
        assert source_of(replace(drawn, run="", model="mine"), known) == "models/mine"
        assert source_of(replace(drawn, run="", model=MARKUP), known) == ""

    def test_other_files_have_no_settings(self, tmp_path: Path) -> None:
        plain, text = save_image(tmp_path / "a.png"), tmp_path / "b.txt"
        text.write_text("x")
        for path, code in ((plain, "png-metadata"), (text, "png-unreadable")):
            with raises(code, path.name):
                read_back(path)
            assert not path.exists()


class TestPages:
    """The application itself; needs the extra `studio`."""

    def client(self, studio: Studio, token: str = "", **options: Any) -> Any:
        pytest.importorskip("gradio", reason="needs the extra `studio`")
        testclient = pytest.importorskip("starlette.testclient")
        from lookforward.studio.app import build_app

        return testclient.TestClient(build_app(studio, token), **{"base_url": "http://127.0.0.1:7860"} | options)

    def test_pages_load_nothing_from_elsewhere_and_nothing_is_sent(
        self, studio: Studio, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("gradio", reason="needs the extra `studio`")
        tried: list[Any] = []
        monkeypatch.setattr(socket, "create_connection", lambda *to, **_: tried.append(to))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *to, **_: tried.append(to) or [])
        real = socket.socket.connect

        def connect(own: socket.socket, to: Any) -> Any:
            if own.family in (socket.AF_INET, socket.AF_INET6):
                tried.append(to)
                raise OSError("no network in this test")
            return real(own, to)

        monkeypatch.setattr(socket.socket, "connect", connect)
        client = self.client(studio)
        page = client.get("/")
        time.sleep(0.5)  # threads that would ask for a newer version
        assert page.status_code == 200
        assert tried == []
        policy = page.headers["content-security-policy"]
        assert "connect-src 'self'" in policy
        assert "http" not in policy
        assert "fonts.googleapis" not in client.get("/theme.css").text
        config = client.get("/config").json()
        assert config["analytics_enabled"] is False
        assert not [one for one in config["dependencies"] if one.get("api_visibility") == "public"]

    def test_a_token_is_asked_for_and_leaves_the_address(self, studio: Studio) -> None:
        client = self.client(studio, "secret", base_url="http://example.org", follow_redirects=False)
        for path in ("/", "/config", "/picture/a/samples/b.png", "/gradio_api/upload", "/?token=wrong", "/?token="):
            assert client.get(path).status_code == 403
        client.cookies.set("studio-token", "wrong")
        assert client.get("/").status_code == 403
        client.cookies.clear()
        entered = client.get("/?token=secret")
        assert entered.status_code == 303
        assert entered.headers["location"] == "/"
        assert "samesite=strict" in entered.headers["set-cookie"].lower()
        assert client.get("/").status_code == 200

    def test_other_pages_cannot_use_it(self, studio: Studio) -> None:
        client = self.client(studio)
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        answer = client.post("/gradio_api/queue/join", json={}, headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
        assert client.get("/", headers={"Host": "[::1]:7860"}).status_code == 200

    def test_files_outside_are_not_given(self, studio: Studio, tmp_path: Path) -> None:
        client = self.client(studio)
        (tmp_path / "secret.txt").write_text("secret")
        for path in (tmp_path / "secret.txt", studio.store.path, "/etc/passwd"):
            answer = client.get(f"/gradio_api/file={path}")
            assert answer.status_code in (403, 404)
        assert client.get("/gradio_api/proxy=https://example.hf.space/x").status_code == 404
        assert client.get("/picture/..%2f..%2f/samples/x.png").status_code == 404
        assert client.get("/picture/a/samples/..%2f..%2fsettings.toml").status_code == 404

    def test_two_browsers_have_what_is_on_the_disk(self, with_photos: Studio) -> None:
        first, second = self.client(with_photos), self.client(with_photos)
        make_run(with_photos)
        for client in (first, second):
            assert client.get("/picture/teapot-look-forward/samples/step-000001.png").status_code == 200


def _of(studio: Studio) -> tuple[Workspace, Store]:
    return studio.workspace, studio.store


def recording(seen: dict[str, Any], command: Any = train) -> Any:
    """A command that only keeps what it is given."""

    @functools.wraps(command)
    def record(*_: Any, **given: Any) -> None:
        seen.update(given)

    return record
