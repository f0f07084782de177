"""The studio and the blind study in a real Chromium: from photos to a grid and a study, a killed server, raters."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lookforward.exports.png import read_metadata
from lookforward.study.raters import Raters
from lookforward.study.store import StudyFile
from test_study import make_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1400, "height": 1000}
QUICK = """\
evaluation.sample_every = 20
evaluation.every = 20
evaluation.images = 2
evaluation.sampler_steps = 4
data.class_images = 2
data.class_image_steps = 4
run.checkpoint_every = 10
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Chromium: install the system's package")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Server:
    """`lookforward WORDS` that listens on a port of its own, until it is ended."""

    def __init__(self, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.words = words
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "lookforward", *self.words, "--port", str(self.port)]
        path = os.pathsep.join(sys.path)
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url, timeout=5).read(1)
                return process
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.2)
        process.kill()
        raise AssertionError("the server does not answer")

    def kill_and_start(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def open_page(browser: Any, url: str, size: dict[str, int] = DESK) -> Any:
    """A page of a new visitor, which may load nothing but the server's own."""
    page = browser.new_context(viewport=size).new_page()
    page.set_default_timeout(120_000)
    elsewhere: list[str] = []
    page.on(
        "request", lambda one: elsewhere.append(one.url) if not one.url.startswith(("data:", "blob:", url)) else None
    )
    page.elsewhere = elsewhere
    page.goto(url)
    return page


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_from_photos_to_a_grid_over_a_killed_server(
    browser: Any, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", reason="needs the extra `studio`")
    server = Server("studio", str(tmp_path))
    try:
        page = open_page(browser, server.url)
        add_subject(page, photos)
        start_run(page)
        log = tmp_path / "runs" / "teapot-look-forward" / "metrics.jsonl"
        wait_for(lambda: log.is_file() and len(log.read_text().splitlines()) >= 5)
        server.kill_and_start()
        page, other = open_page(browser, server.url), open_page(browser, server.url, PHONE)
        for one in (page, other):
            tab(one, "Watch")
        for one in (page, other):
            one.get_by_text("was chosen for the export").wait_for(timeout=900_000)  # a busy machine is slow, not wrong
        # The export is there a moment before the process has ended.
        page.get_by_role("region", name="Run teapot-look-forward").get_by_text("finished").wait_for()
        assert len(log.read_text().splitlines()) == 40
        draw_grid(page, tmp_path)
        start_second_run(page)
        create_study(page, tmp_path)
        answer_study(browser, page)
        for size in (PHONE, DESK):
            page.set_viewport_size(size)
            for name in ("Subject", "Train", "Watch", "Draw", "Study", "Runs"):
                tab(page, name)
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide <= 1, f"{name} is {wide} pixels wider than {size['width']}"
        delete_run(page, tmp_path)
        assert page.elsewhere == []
    finally:
        server.end()
    assert "Traceback" not in capfd.readouterr().err


def add_subject(page: Any, photos: Path) -> None:
    page.get_by_label("New subject").fill("teapot")
    page.get_by_role("button", name="Create").click()
    page.get_by_text("is there: drop").wait_for()
    files = [str(path) for path in sorted(photos.glob("*.png"))]
    page.locator("input[type=file]").first.set_input_files(files)
    page.get_by_text(f"Added {len(files)} photos").wait_for()
    noun = page.get_by_label("What is it?")
    noun.fill("<b>teapot</b>")
    noun.press("Tab")
    noun.fill("teapot")
    noun.press("Tab")
    page.get_by_role("checkbox", name="I may use these photos").focus()
    page.keyboard.press("Space")
    page.get_by_text("Consent is recorded").wait_for()


def start_run(page: Any) -> None:
    tab(page, "Train")
    page.get_by_role("spinbutton", name="Steps", exact=True).fill("40")
    page.get_by_role("button", name="Further settings").click()
    page.get_by_role("textbox", name="Settings").fill(QUICK)
    page.get_by_role("button", name="Check and estimate").click()
    page.get_by_text("The same in a terminal").wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("is in the queue").wait_for()


def start_second_run(page: Any) -> None:
    """Another method on the same photos, short and without measurements."""
    tab(page, "Train")
    page.get_by_role("combobox", name="Recipe").click()
    page.get_by_role("option", name="dreambooth", exact=True).click()
    page.get_by_role("spinbutton", name="Steps", exact=True).fill("2")
    page.get_by_role("checkbox", name="Measure while training").uncheck()
    page.get_by_role("button", name="Further settings").click()
    page.get_by_role("textbox", name="Settings").fill("data.class_images = 2\ndata.class_image_steps = 4")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("teapot-dreambooth is in the queue").wait_for()
    tab(page, "Watch")
    choose_run(page, "teapot-dreambooth")
    page.get_by_role("region", name="Run teapot-dreambooth").get_by_text("finished").wait_for(timeout=900_000)


def create_study(page: Any, folder: Path) -> None:
    """A study of both runs, drawn by the queue."""
    tab(page, "Study")
    for name in ("teapot-look-forward", "teapot-dreambooth"):
        page.get_by_label("Finished runs").click()
        page.get_by_role("option", name=name).click()
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="The first one drawn").check()
    page.get_by_role("button", name="Prompts of your own").click()
    page.get_by_role("textbox", name="Prompts to choose from").fill(
        "a {} <img src=x onerror=alert(1)>\na {} in the snow"
    )
    page.get_by_role("button", name="Check the study").click()
    page.get_by_text("Each rater sees 2 of 2 pairs").wait_for()
    page.get_by_role("button", name="Create the study").click()
    page.get_by_text("study is in the queue").wait_for()
    page.get_by_role("region", name="Study study").get_by_text("ready").wait_for(timeout=900_000)
    assert StudyFile(folder / "study.sqlite").require_ready().methods == ["look-forward", "dreambooth"]


def answer_study(browser: Any, page: Any) -> None:
    """A rater answers on a phone, and the answers appear in the tab."""
    page.get_by_role("button", name="Open it for raters").click()
    shown = page.get_by_role("region", name="Study study")
    address = shown.get_by_role("link").get_attribute("href")
    wait_for(lambda: answers_at(address))
    rater = open_page(browser, address, PHONE)
    rater.get_by_role("checkbox").check()
    rater.get_by_role("button").first.click()
    for number in (1, 2, 3):
        rater.get_by_text(f"Pair {number} of 3").wait_for()
        for question in ("subject", "prompt"):
            rater.locator(f"input[name={question}][value=similar]").check()
        rater.get_by_role("button", name="Next").click()
    rater.get_by_text("Thank you").wait_for()
    assert rater.elsewhere == []
    page.get_by_text("3 answers of 1 raters, 1 of them done").wait_for()
    page.get_by_role("region", name="Report").get_by_text("55.1%").wait_for()
    with page.expect_download() as got:
        page.get_by_role("link", name="Download all answers (CSV)").click()
    assert len(Path(got.value.path()).read_text().splitlines()) == 1 + 3
    page.get_by_role("button", name="Close it").click()
    page.get_by_text("page of study is closed").wait_for()
    assert not answers_at(address)


def answers_at(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(address, timeout=5).read(1))
    except OSError:
        return False


def draw_grid(page: Any, folder: Path) -> None:
    """A grid of two prompts and two seeds; then the settings of one of its images come back."""
    tab(page, "Draw")
    panel = page.get_by_role("tabpanel")
    assert page.get_by_role("checkbox", name="Invisible watermark").is_checked()
    panel.get_by_label("Prompts").fill("a photo of {} on the beach\n<img src=x onerror=alert(1)> {}")
    panel.get_by_label("Seeds").fill("0-1")
    page.get_by_role("button", name="Sampler").click()
    page.get_by_label("Sampler steps").fill("4")
    page.get_by_label("Columns").click()
    page.get_by_role("option", name="seeds").click()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("Download the whole grid").wait_for(timeout=300_000)
    pictures = page.get_by_role("region", name="Grid of images").locator("img")
    assert pictures.count() == 4
    assert all(pictures.nth(i).evaluate("one => one.naturalWidth") == 64 for i in range(4))
    images = sorted((folder / "runs" / "teapot-look-forward" / "images").glob("a-photo*-1-*.png"))
    assert read_metadata(images[0]).prompt == "a photo of sks teapot on the beach"
    panel.get_by_label("Prompts").fill("something else")
    page.get_by_role("tabpanel").locator("input[type=file]").last.set_input_files(str(images[0]))
    page.get_by_text("Its settings are in the form").wait_for()
    assert panel.get_by_label("Prompts").input_value() == "a photo of sks teapot on the beach"
    assert panel.get_by_label("Seeds").input_value() == "1"


def choose_run(page: Any, name: str) -> None:
    page.get_by_role("combobox", name="Run", exact=True).click()
    page.get_by_role("option", name=name).click()


def delete_run(page: Any, folder: Path) -> None:
    tab(page, "Runs")
    choose_run(page, "teapot-look-forward")
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete it for good").wait_for(state="hidden")
    assert (folder / "runs" / "teapot-look-forward").is_dir()
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete it for good").click()
    page.get_by_text("teapot-look-forward is deleted").wait_for()
    assert not (folder / "runs" / "teapot-look-forward").exists()


def wait_for(true: Any) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened for two minutes")


def test_three_raters_answer_a_study(browser: Any, tmp_path: Path) -> None:
    """Two raters prefer the first method, one a side; the server is killed in between."""
    study = make_study(tmp_path / "study.sqlite")
    server = Server("study", "serve", str(study.path))
    try:
        for number, size in enumerate((DESK, PHONE, DESK)):
            page = open_page(browser, server.url, size)
            page.get_by_role("checkbox").check()
            page.get_by_role("button").first.click()
            answer_pairs(page, study, always_left=number == 2, pairs=4)
            if number == 0:
                server.kill_and_start()
                page.reload()
            answer_pairs(page, study, always_left=number == 2, pairs=7)
            page.get_by_text("Thank you").wait_for()
            assert page.elsewhere == []
    finally:
        server.end()
    rows = Raters(study).answers()
    assert len(rows) == 3 * 11
    by_rater = {row["rater"]: {one["subject_choice"] for one in rows if one["rater"] == row["rater"]} for row in rows}
    assert list(by_rater.values()) == [{"first"}, {"first"}, {"first", "second"}]
    command = [sys.executable, "-m", "lookforward", "study", "report", str(study.path)]
    path = os.pathsep.join(sys.path)
    report = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert re.search(r"raters: 2\b", report.stdout)
    assert "not counted" in (tmp_path / "study.html").read_text()


def answer_pairs(page: Any, study: StudyFile, *, always_left: bool, pairs: int) -> None:
    """Answer as a rater who sees what is red, the first method's colour; or who always takes the left one."""
    for _ in range(pairs):
        left = page.locator("img").evaluate_all("all => all.map(one => one.src.split('/').pop())")
        names = [name for name in left if study.picture(name) is not None]
        red = next(name for name in names[-2:] if _is_red(study.picture(name)))
        side = "left" if always_left or red == names[-2] else "right"
        page.locator(f"input[name=subject][value={side}]").check()
        page.locator(f"input[name=prompt][value={'left' if always_left else 'similar'}]").check()
        page.locator("form:has(input[name=subject]) button").first.click()
        page.wait_for_load_state()


def _is_red(png: bytes | None) -> bool:
    with Image.open(io.BytesIO(png or b"")) as image:
        return image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
