"""A run that was killed goes on exactly where it was, and a folder that is not that run is left alone."""

import json
import random
import re
import shutil
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from conftest import save_image
from errors import raises
from jobs import SETTINGS, as_options, exported, logged, server, start, tree
from lookforward import Settings, personalize

SHORTER = SETTINGS | {"run.steps": 2, "run.checkpoint_every": 1, "evaluation.sample_every": 1, "data.class_images": 1}
LONGER = SETTINGS | {
    "run.steps": 16,
    "run.checkpoint_every": 3,
    "evaluation.sample_every": 4,
    "run.export_every": 5,
    "data.class_images": 6,
}
PATIENCE = 250  # seconds for one process


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = server()
    start(context, ["--help"]).join(PATIENCE)  # the first waits for the imports
    return context


class Kills:
    """Trains into one folder after another, killing the process, and compares each finished run with `whole`."""

    def __init__(self, processes: ForkServerContext, command: list[str], place: Path) -> None:
        self.processes, self.command, self.place = processes, command, place
        count = place / "count.txt"
        started = time.perf_counter()
        whole = place / "whole"
        self.run([*command, "--output", str(whole)], watched=whole, count_into=count, cache=place / "whole-cache")
        self.seconds = time.perf_counter() - started
        self.changes = int(count.read_text())
        self.export, self.log = exported(whole), logged(whole)
        self.samples, self.exports = tree(whole / "samples"), tree(whole / "exports")
        self.names = sorted(path.name for path in whole.iterdir())
        self.kills = self.runs = 0

    def run(self, arguments: list[str], **options: Any) -> None:
        process = start(self.processes, arguments, **options)
        process.join(PATIENCE)
        assert process.exitcode == 0

    def attempt(self, *, delay: float | None = None, die_before: int = 0, lines: int | None = None) -> bool:
        """Go on with the run and kill it: after a delay, before a change of its files, or at a line of its log.

        False where it came to its end first: then it was compared, and the next attempt begins another.
        """
        folder = self.place / f"run-{self.runs}" / "out"  # with a cache of its own: drawing prior images is hit too
        options: dict[str, Any] = {"watched": folder.parent, "cache": folder.parent / "cache"}
        process = start(self.processes, [*self.command, "--output", str(folder)], die_before=die_before, **options)
        if delay is not None:
            process.join(delay)
            process.kill()
        metrics = folder / "metrics.jsonl"
        while lines is not None and process.is_alive():
            if metrics.is_file() and metrics.read_bytes().count(b"\n") >= lines:
                process.kill()
            process.join(0.002)
        process.join(PATIENCE)
        if process.exitcode == -signal.SIGKILL:
            self.kills += 1
            return True
        assert process.exitcode == 0
        self.compare(folder)
        return False

    def finish(self) -> None:
        while self.attempt():
            raise AssertionError("a run that nobody killed died")

    def compare(self, folder: Path) -> None:
        assert exported(folder) == self.export
        assert logged(folder) == self.log
        assert tree(folder / "samples") == self.samples
        assert tree(folder / "exports") == self.exports
        # A finished run that was killed before it took its lock away is not begun again, and the system let go of it
        assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == self.names
        self.runs += 1


@pytest.fixture
def kills(
    request: pytest.FixtureRequest, processes: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path
) -> Kills:
    command = ["train", str(photos), "--class-noun", "teapot", "--model", str(tiny_model)]
    return Kills(processes, command + as_options(request.param), tmp_path)


@pytest.mark.parametrize("kills", [LONGER], indirect=True, ids=["long"])
def test_ten_kills_at_random_moments_change_nothing(kills: Kills) -> None:
    chance = random.Random(0)
    while kills.kills < 10:
        match kills.kills % 3:
            case 0:
                kills.attempt(delay=chance.uniform(0.0, kills.seconds))
            case 1:
                kills.attempt(die_before=chance.randint(1, kills.changes // 2))
            case _:
                kills.attempt(lines=chance.randint(1, LONGER["run.steps"]))
    kills.finish()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [SHORTER], indirect=True, ids=["short"])
def test_a_kill_before_any_change_of_a_file_changes_nothing(kills: Kills) -> None:
    change = 1
    while kills.attempt(die_before=change):
        kills.finish()
        change += 1
    assert kills.kills == change - 1 > kills.changes // 2


@pytest.mark.slow
@pytest.mark.parametrize("kills", [LONGER], indirect=True, ids=["long"])
def test_a_hundred_kills_at_random_moments_change_nothing(kills: Kills) -> None:
    chance = random.Random(1)
    while kills.kills < 100:
        kills.attempt(delay=chance.uniform(0.0, kills.seconds))
    kills.finish()


def test_files_that_the_system_refuses_to_write(
    processes: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    """A limit on the size of files, as a full disk, fails in the middle of a write, in whichever library."""
    folder = tmp_path / "run"
    command = ["train", str(photos), "--class-noun", "teapot", "--model", str(tiny_model), *as_options(SETTINGS)]
    command += ["--output", str(folder)]

    def go_on(largest_file: int, exitcode: int) -> str:
        receiver, sender = processes.Pipe(duplex=False)
        process = start(processes, command, cache=tmp_path / "cache", largest_file=largest_file, errors=sender)
        process.join(PATIENCE)
        message = receiver.recv()
        assert process.exitcode == exitcode, message
        return message

    for limit, where in (
        (100, "class-images/"),
        (5_000, "run/(class-images.png|checkpoints)"),
        (500, "run/settings.toml"),
    ):
        assert re.fullmatch(f"lookforward: .*{where}.* cannot be written: .*[Ff]ile too large.*\n", go_on(limit, 2))
    go_on(0, 0)
    whole = tree(folder)
    shutil.rmtree(folder / "export")
    (folder / "samples" / "step-000006.png").unlink()
    for limit, where in ((50_000, "run/samples"), (110_000, "run/export")):
        assert re.fullmatch(f"lookforward: .*{where}.* cannot be written: .*[Ff]ile too large.*\n", go_on(limit, 2))
        assert not list(folder.rglob(".partial*"))
    go_on(0, 0)
    assert tree(folder) == whole
    assert [row["step"] for row in logged(folder)] == list(range(1, SETTINGS["run.steps"] + 1))


@pytest.fixture(scope="module")
def finished(tiny_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for tests to copy."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKFORWARD_CACHE", str(folder.parent / "cache"))
        personalize(photos, "teapot", output=folder, settings={"model.name": str(tiny_model), **SETTINGS})
    return folder


@pytest.fixture
def again(finished: Path, tiny_model: Path, photos: Path, tmp_path: Path) -> Any:
    """Gives the finished run's command again, in a copy of its folder: `again.folder`."""

    class Again:
        folder = tmp_path / "run"

        def __call__(self, **changed: Any) -> list[int]:
            """The steps that were taken."""
            steps: list[int] = []
            settings = {"subject.class_noun": "teapot", "model.name": str(tiny_model), **SETTINGS, **changed}
            personalize(
                settings.pop("subject.photos", photos),
                recipe=settings.pop("run.recipe", "look-forward"),
                output=self.folder,
                on_step=lambda result: steps.append(result.step),
                settings=settings,
            )
            return steps

        def unfinish(self, checkpoints: tuple[int, ...] = (4, 6)) -> None:
            shutil.rmtree(self.folder / "export")
            for path in (self.folder / "checkpoints").iterdir():
                if int(path.name[5:]) not in checkpoints:
                    shutil.rmtree(path)

        def same(self) -> bool:
            return exported(self.folder) == exported(finished) and logged(self.folder) == logged(finished)

    shutil.copytree(finished, tmp_path / "run")
    return Again()


def test_a_finished_run_is_not_run_again(again: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in again.folder.rglob("*")}
    assert again() == []
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("*")} == before


@pytest.mark.parametrize(
    "changed",
    [
        {"run.steps": 5}, {"subject.class_noun": "kettle"}, {"subject.identifier": "zwx"}, {"run.seed": 1},
        {"run.recipe": "dreambooth"},
        {"objective.discount": 0.9, "run.batch_size": 2}, {"data.resolution": 48}, {"model.precision": "bf16"},
    ],
)  # fmt: skip
def test_other_settings_are_refused_by_name(again: Any, changed: dict[str, Any]) -> None:
    before = tree(again.folder)
    earlier = {**Settings().flat(), "subject.class_noun": "teapot", "run.recipe": "look-forward", **SETTINGS}
    facts = [f"{name} was {earlier[name]!r}, now {value!r}" for name, value in changed.items()]
    with raises("run-differs", again.folder, "--output", *facts) as caught:
        again(**changed)
    assert str(caught.value).count(" was ") == len(changed) + (2 if "run.recipe" in changed else 0)  # it sets two more
    assert tree(again.folder) == before


def test_settings_that_change_no_result_may_change(again: Any) -> None:
    again.unfinish((4,))
    assert again(**{"run.checkpoint_every": 5, "evaluation.sample_every": 0}) == [5, 6]
    assert again.same()
    names = sorted(path.name for path in (again.folder / "checkpoints").iterdir())
    assert names == ["step-000005", "step-000006"]
    assert "checkpoint_every = 5\n" in (again.folder / "settings.toml").read_text()


def test_other_photos_are_refused(again: Any, photos: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    shutil.copytree(photos, others)
    save_image(others / "00.png", seed=5)
    before = tree(again.folder)
    with raises("run-differs", again.folder, "the photos"):
        again(**{"subject.photos": others})
    assert tree(again.folder) == before


def test_the_same_photos_elsewhere_are_the_same(again: Any, photos: Path, tmp_path: Path) -> None:
    again.unfinish((4,))
    shutil.copytree(photos, tmp_path / "moved")
    assert again(**{"subject.photos": tmp_path / "moved"}) == [5, 6]
    assert str(tmp_path / "moved") in (again.folder / "settings.toml").read_text()
    assert again.same()


def test_a_folder_that_is_no_run_is_left_alone(again: Any, tmp_path: Path) -> None:
    again.folder = tmp_path / "other"
    again.folder.mkdir()
    (again.folder / "thesis.txt").write_text("precious")
    with raises("output-taken", again.folder, "--output"):
        again()
    assert tree(again.folder) == {"thesis.txt": b"precious"}
    again.folder /= "thesis.txt"
    with raises("output-taken", again.folder):
        again()
    again.folder /= "below"
    with raises("not-writable", again.folder):
        again()


def test_an_empty_folder_is_used(again: Any, tmp_path: Path) -> None:
    again.folder = tmp_path / "empty"
    again.folder.mkdir()
    assert len(again()) == SETTINGS["run.steps"]
    assert again.same()


@pytest.mark.parametrize(
    "damage", ["no checkpoints", "checkpoints empty", "one", "half an export", "cut log", "no log"]
)
def test_a_half_written_run_is_gone_on_with(again: Any, damage: str) -> None:
    folder: Path = again.folder
    again.unfinish((4,) if damage in ("one", "cut log", "no log") else ())
    if damage == "no checkpoints":
        (folder / "checkpoints").rmdir()
    if damage == "half an export":
        for name in ("export", ".partial-export"):
            (folder / name / "unet").mkdir(parents=True)
            (folder / name / "unet" / "config.json").write_text("{")
    if damage == "cut log":
        text = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(text[: text.rindex('"loss"')])
    if damage == "no log":
        (folder / "metrics.jsonl").unlink()
    taken = again()
    assert taken == list(range(5 if damage in ("one", "cut log", "no log") else 1, 7))
    if damage == "no log":
        assert [row["step"] for row in logged(folder)] == [5, 6]
    else:
        assert again.same()
    assert not list(folder.rglob(".partial*"))


@pytest.mark.parametrize("left", [["photos.json"], [".partial-photos.json"], ["photos.json", ".partial-settings.toml"]])
def test_a_run_that_was_killed_as_it_began_begins_again(again: Any, tmp_path: Path, left: list[str]) -> None:
    again.folder = tmp_path / "begun"
    again.folder.mkdir()
    for name in left:
        (again.folder / name).write_text("[")
    assert len(again()) == SETTINGS["run.steps"]
    assert again.same()


@pytest.mark.parametrize("text", ["", 'photos = "x"\nclass_no', 'photos = "x"\n', "\x00" * 40, b"\xff\xfe"])
def test_a_damaged_config_says_what_to_do(again: Any, text: str | bytes) -> None:
    again.unfinish()
    path: Path = again.folder / "settings.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = tree(again.folder)
    with raises("run-damaged", path):
        again()
    assert tree(again.folder) == before


def test_a_config_of_another_version_names_what_is_unknown(again: Any) -> None:
    with (again.folder / "settings.toml").open("a") as file:
        file.write("flux_capacitor = 1.21\n")
    with raises("run-damaged", "flux_capacitor", again.folder / "settings.toml"):
        again()


def test_lost_samples_are_drawn_again(again: Any, finished: Path) -> None:
    """The process was killed after the checkpoint of step 6 and before its samples."""
    again.unfinish()
    (again.folder / "samples" / "step-000006.png").unlink()
    assert again() == []
    assert tree(again.folder / "samples") == tree(finished / "samples")


def test_photos_json_holds_the_digests_in_order(finished: Path, photos: Path) -> None:
    digests = json.loads((finished / "photos.json").read_text())
    assert len(digests) == len(set(digests)) == len(list(photos.glob("*.png")))
