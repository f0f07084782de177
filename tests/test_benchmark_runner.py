"""The runner of a benchmark: nothing finished is lost or run again, whatever happens to it."""

import csv
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from errors import raises
from exports import make_model
from fake_cells import FakeRunner, begun, fake_plan, finish, in_fork, read_failure
from lookforward.benchmark import runner as runner_module
from lookforward.benchmark.cell import finished_cell, read_strip
from lookforward.benchmark.dataframes import write_results
from lookforward.benchmark.datasets.find import find_dataset
from lookforward.benchmark.datasets.values import photos_hash
from lookforward.benchmark.description import write_description
from lookforward.benchmark.estimate import estimate
from lookforward.benchmark.executors import Processes
from lookforward.benchmark.methods import grid_methods
from lookforward.benchmark.plan import Plan, cell_name, method_label, prompt_kind
from lookforward.benchmark.reading import read_benchmark
from lookforward.benchmark.runner import prepare, run_grid, run_one
from lookforward.cli import main
from lookforward.errors import LookforwardError
from tiny_rewards import save_clip, save_vit


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return fake_plan(tmp_path / "things")


@pytest.fixture
def folder(tmp_path: Path, plan: Plan) -> Path:
    prepare(plan, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def fake(tmp_path: Path) -> FakeRunner:
    return FakeRunner(tmp_path / "ledger.txt")


def whole(folder: Path) -> dict[str, bytes]:
    """Cells and their images, without what only one run leaves."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for part in ("cells", "images") for p in (folder / part).iterdir()
    }


def test_no_finished_cell_is_run_again(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    first = finish(plan, folder, fake)
    assert [o.key for o in first] == list(plan.cells())
    assert all(o.fresh and o.state == "finished" for o in first)
    again = finish(plan, folder, fake)
    assert [o.cell for o in again] == [o.cell for o in first]
    assert not any(o.fresh for o in again)
    assert sorted(begun(fake.ledger)) == sorted(plan.cells())
    assert not list((folder / "locks").iterdir())
    assert read_strip(folder, cell_name(first[3].key)).shape == (4, 16, 16, 3)


def test_killed_at_any_point_it_goes_on(plan: Plan, folder: Path, fake: FakeRunner, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    prepare(plan, clean)
    changes = in_fork(plan, clean, fake)
    assert changes > 12 * 5
    expected = whole(clean)
    for point in sorted(random.Random(3).sample(range(1, changes + 1), 8)):
        shutil.rmtree(folder)
        prepare(plan, folder)
        fake.ledger.unlink()
        assert in_fork(plan, folder, fake, die_before=point) == -1
        kept = {key for key in plan.cells() if finished_cell(plan, folder, key)}
        assert len(kept) < 12
        finish(plan, folder, fake)
        counts = Counter(begun(fake.ledger))
        assert all(counts[key] == 1 for key in kept), point
        assert set(counts) == set(plan.cells())
        assert sum(counts.values()) <= 13, point  # only the one that it died at is run anew
        left = {name: data for name, data in whole(folder).items() if ".partial-" not in name}
        assert left == expected, point


def test_broken_subject_does_not_stop_the_rest(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    broken = FakeRunner(fake.ledger, broken="dog6")
    outcomes = finish(plan, folder, broken)
    assert Counter((o.key[0], o.state) for o in outcomes) == {("dog6", "failed"): 6, ("old_vase", "finished"): 6}
    record = read_failure(folder, ("dog6", "dino", 1))
    assert record["message"] == "ValueError: dog6 is broken"
    assert (record["subject"], record["method"], record["seed"]) == ("dog6", "dino", 1)
    assert "fake_cells" in record["traceback"]
    assert len(begun(fake.ledger)) == 12  # none of them twice in one call
    finish(plan, folder, fake)  # its photos were put right
    assert len(begun(fake.ledger)) == 18
    assert not list((folder / "failed").iterdir())


def test_lock_of_a_living_process_is_left_alone_and_of_a_dead_one_taken(
    plan: Plan, folder: Path, fake: FakeRunner
) -> None:
    key = ("dog6", "dino", 0)
    path = folder / "locks" / "dog6.dino.0.lock"
    with FileLock(path):
        assert run_one(plan, folder, key, fake) is None
    assert not begun(fake.ledger)
    path.write_text("")  # as a killed process leaves it
    outcome = run_one(plan, folder, key, fake)
    assert outcome is not None
    assert outcome.state == "finished"
    assert not path.exists()


def test_cell_that_kills_its_process_is_given_up(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    key = ("dog6", "dino", 0)
    deadly = FakeRunner(fake.ledger, deadly=key, deaths=99)
    outcomes = list(run_grid(plan, folder, Processes(plan, folder, deadly.load, 2), pause=0.1))
    assert begun(fake.ledger).count(key) == 2
    assert [o.key for o in outcomes if o.state == "failed"] == [key]
    assert len(outcomes) == len(set(begun(fake.ledger))) == 12
    record = read_failure(folder, key)
    assert record["error"] == "LookforwardError"
    assert not list((folder / "locks").iterdir())


def test_full_disk_costs_no_work_and_loses_nothing(
    plan: Plan, folder: Path, fake: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Plan(("dog6",), plan.methods, plan.seeds, None, plan.images, plan.count, plan.dataset)
    finish(half, folder, fake)
    before = whole(folder)
    with monkeypatch.context() as full:
        full.setattr(runner_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        outcomes = finish(plan, folder, fake)
        assert {o.state for o in outcomes if o.key[0] == "old_vase"} == {"failed"}
        assert all("the disk is full" in o.message for o in outcomes if o.state == "failed")
        assert len(begun(fake.ledger)) == 6
    assert whole(folder) == before
    assert all(o.state == "finished" for o in finish(plan, folder, fake))


def test_disk_that_fills_while_writing_leaves_no_half_cell(
    plan: Plan, folder: Path, fake: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("lookforward.files.os.fsync", refuse)  # of the cell, once its images are there
        outcomes = finish(plan, folder, fake)
    assert {o.state for o in outcomes} == {"failed"}
    assert all("the disk is full" in o.message for o in outcomes)
    assert not list((folder / "cells").iterdir())
    assert not list((folder / "images").glob(".*"))
    assert {o.state for o in finish(plan, folder, fake)} == {"finished"}


def test_other_settings_or_photos_are_not_mixed(plan: Plan, folder: Path, fake: FakeRunner, tmp_path: Path) -> None:
    finish(plan, folder, fake)
    fewer: dict[str, Any] = {"run.steps": 21}
    other = fake_plan(tmp_path / "things", **fewer)
    with raises("cell-settings-differ", folder):
        prepare(other, folder)
    (tmp_path / "things" / "dog6" / "3.png").write_bytes(b"one more")
    photos_hash.cache_clear()
    with raises("cell-settings-differ", folder):
        prepare(plan, folder)
    photos_hash.cache_clear()


def test_cell_file_that_is_cut_off_is_run_again(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    finish(plan, folder, fake)
    path = folder / "cells" / "dog6.dino.0.json"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    finish(plan, folder, fake)
    assert path.read_bytes() == data
    assert begun(fake.ledger).count(("dog6", "dino", 0)) == 2


def test_workers_share_a_grid_and_replace_the_dead(plan: Plan, folder: Path, tmp_path: Path) -> None:
    key = ("dog6", "untouched", 1)
    fake = FakeRunner(tmp_path / "ledger.txt", broken="", deadly=key, deaths=1, seconds=0.05)
    outcomes = list(run_grid(plan, folder, Processes(plan, folder, fake.load, 2)))
    assert {o.key for o in outcomes} == set(plan.cells())
    assert {o.state for o in outcomes} == {"finished"}
    counts = Counter(begun(fake.ledger))
    assert counts.pop(key) == 2
    assert set(counts.values()) == {1}
    assert not list((folder / "locks").iterdir())


def test_table_has_a_row_for_each_image(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    finish(plan, folder, FakeRunner(fake.ledger, broken="dog6"))
    finish(Plan(("dog6",), plan.methods, (0,), None, 2, 2, plan.dataset), folder, fake)
    write_description(plan, folder, "toybox")
    cells = [cell for key in plan.cells() if (cell := finished_cell(plan, folder, key))]
    write_results(plan, cells, folder, "toybox")
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (6 + 3) * 4
    by_cell = Counter((r["subject"], r["method"], r["seed"]) for r in rows)
    assert by_cell["dog6", "dino", "0"] == 4
    assert by_cell["dog6", "dino", "1"] == 0
    cell = finished_cell(plan, folder, ("dog6", "dino", 0))
    assert cell is not None
    mine = [r for r in rows if (r["subject"], r["method"], r["seed"]) == ("dog6", "dino", "0")]
    assert [float(r["CLIP-I"]) for r in mine] == cell.scores["CLIP-I"]
    assert [r["prompt"] for r in mine] == [p for p in plan.prompts_of("dog6") for _ in range(2)]
    assert [r["image_seed"] for r in mine] == ["10000", "10001", "10002", "10003"]
    assert {r["optimised"] for r in mine} == {"DINO"}
    assert {r["oracle"] for r in rows} == {""}
    named = {name: mine[0][name] for name in ("dataset", "class_noun", "kind", "recipe", "adapter", "label", "steps")}
    assert named == {
        "dataset": "things", "class_noun": "dog", "kind": "live", "recipe": "dino", "adapter": "full",
        "label": "DINO reward", "steps": "20",
    }  # fmt: skip
    assert json.loads(mine[0]["settings"])["objective.reward"] == "dino"
    assert len({r["config_hash"] for r in rows if r["method"] == "dino"}) == 1
    assert mine[0]["config_hash"] != next(r["config_hash"] for r in rows if r["method"] == "dreambooth")
    assert {r["prompt_kind"] for r in mine} == {prompt_kind(p) for p in plan.prompts_of("dog6")}
    untouched = next(r for r in rows if r["method"] == "untouched")
    assert (untouched["recipe"], untouched["optimised"], untouched["settings"]) == ("", "", "{}")

    described = json.loads((folder / "benchmark.json").read_text())
    assert [m["name"] for m in described["methods"]] == ["untouched", "dreambooth", "dino"]
    assert described["methods"][2]["optimised"] == ["DINO"]
    assert [(s["name"], s["kind"], len(s["photos"])) for s in described["subjects"]] == [
        ("dog6", "live", 3),
        ("old_vase", "object", 3),
    ]
    assert (described["seeds"], described["images"], described["dataset"]["name"]) == ([0, 1], 2, "things")


def test_parquet_holds_the_same(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = [o.cell for o in finish(plan, folder, fake) if o.cell]
    assert write_results(plan, cells, folder, "toybox") == ()
    table = parquet.read_table(folder / "results.parquet").to_pydict()
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(table) == list(rows[0])
    assert table["DINO"] == [float(r["DINO"]) for r in rows]
    assert table["seed"] == [int(r["seed"]) for r in rows]


def test_without_pyarrow_there_is_a_note(
    plan: Plan, folder: Path, fake: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [o.cell for o in finish(plan, folder, fake) if o.cell]
    (folder / "results.parquet").write_bytes(b"of an earlier call")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (note,) = write_results(plan, cells, folder, "toybox")
    assert "install pyarrow" in note
    assert not (folder / "results.parquet").exists()
    assert (folder / "results.csv").is_file()


def test_estimate_before_and_after(plan: Plan, folder: Path, fake: FakeRunner) -> None:
    before = estimate(plan, folder, "toybox")
    assert (before.cells, before.finished, before.images) == (12, 0, 2 * 2 * 2 * 2)
    # 8 trained cells of 20 steps, and 4 images a cell, at the speeds that are assumed
    assert before.seconds == pytest.approx(8 * 20 * 0.16 + 12 * 4 * 0.55)
    assert "0.16 s a training step" in before.source
    finish(Plan(("dog6",), plan.methods, plan.seeds, None, 2, 2, plan.dataset), folder, fake)
    after = estimate(plan, folder, "toybox")
    assert after.finished == 6
    assert after.seconds == 2 * 30 + 4 * 90
    assert estimate(plan, folder, "toybox", workers=2).seconds == after.seconds / 2
    assert after.memory == 512 * 2**20
    strips = [path.stat().st_size for path in (folder / "images").iterdir()]
    assert after.disk == pytest.approx(6 * np.mean(strips) + 6 * 40_000)


def test_plan_prints_the_papers_numbers_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nouns = ["dog"] * 7 + ["cat"] * 2 + ["vase"] * 21
    names = [f"thing{i}" for i in range(30)]
    for name in names:
        (tmp_path / "set" / name).mkdir(parents=True)
    table = "subject_name,class\n" + "".join(f"{n},{c}\n" for n, c in zip(names, nouns, strict=True))
    (tmp_path / "set" / "prompts_and_classes.txt").write_text(table)
    words = ["benchmark", "--dataset", "set", "--model", "CompVis/stable-diffusion-v1-4", "--plan"]
    main([*words, "--recipes", "dreambooth,look-forward", "dino", "--adapters", "full", "custom-diffusion"])
    out = capsys.readouterr().out
    assert "30 subjects, 9 of them live" in out
    assert "210 cells: 30 subjects × 7 methods × 1 seeds; 0 are finished" in out
    assert "3,000 images per method: 25 prompts × 4 images" in out
    assert "time: " in out
    assert "0.5 s a training step" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_command_reports_failures_and_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_plan(tmp_path / "set")
    (tmp_path / "set" / "prompts_and_classes.txt").write_text("subject_name,class\ndog6,dog\nold_vase,vase\n")
    broken = FakeRunner(tmp_path / "ledger.txt", broken="dog6")
    monkeypatch.setattr("lookforward.benchmark.cell_runner.ModelSource.load", lambda *_: broken)
    words = ["benchmark", "--dataset", "set", "--output", "out", "--images", "1", "--prompts", "2"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 3
    out = capsys.readouterr().out
    assert "3 of 6 cells failed" in out
    assert "dog6 look-forward 0: ValueError: dog6 is broken" in out
    assert "Look Forward" in out  # the table of what there is
    monkeypatch.setattr("lookforward.benchmark.cell_runner.ModelSource.load", lambda *_: FakeRunner(broken.ledger))
    main(words)
    assert capsys.readouterr().out.count("kept") == 3
    assert len(begun(broken.ledger)) == 9


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--images", "0"], "--images must be at least 1"),
        (["--prompts", "0"], "--prompts must be at least 1"),
        (["--subjects", "vase-9"], "has no subject 'vase-9'"),
        (["--recipes", "drembooth"], "There is no recipe 'drembooth'"),
        (["--recipes", "dpok", "--adapters", "neti"], "cannot train adapter 'neti'"),
        (["--recipes", "dino,dino"], "Two methods would be called dino"),
        (["--images", "5000"], "too many for one cell"),
    ],
)
def test_wrong_words(words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--output", str(tmp_path / "out"), *words])
    assert stopped.value.code == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_labels_and_names() -> None:
    methods = grid_methods(("dreambooth", "look-forward+dino"), ("full", "lora"), {"run.steps": 3})
    assert list(methods) == [
        "untouched", "dreambooth", "look-forward+dino", "dreambooth@lora", "look-forward+dino@lora",
    ]  # fmt: skip
    assert method_label("look-forward+dino@lora") == "Look Forward + DINO reward, LoRA"
    assert methods["dreambooth@lora"] == ("dreambooth", {"run.steps": 3, "adapter.name": "lora"})
    assert len(find_dataset("toybox").subjects) == 20


def test_one_recipe_with_an_adapter_of_its_own() -> None:
    methods = grid_methods(("dreambooth", "best@lora", "best"), ("full", "neti"), {})
    assert list(methods) == ["untouched", "dreambooth", "best", "dreambooth@neti", "best@neti", "best@lora"]
    assert methods["best@lora"] == ("best", {"adapter.name": "lora"})
    with raises("method-name-twice", "best@lora"):
        grid_methods(("best", "best@lora"), ("lora",), {})
    with pytest.raises(LookforwardError, match="lorax"):
        grid_methods(("best@lorax",), ("full",), {})


def test_real_cells_around_a_broken_subject(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_plan(tmp_path / "set")
    model = shutil.copytree(tiny_model, tmp_path / "model")
    for photo in (tmp_path / "set" / "dog6").iterdir():
        photo.write_bytes(b"no picture")
    (tmp_path / "set" / "prompts_and_classes.txt").write_text("subject_name,class\ndog6,dog\nold_vase,vase\n")
    words = [
        "benchmark", "--dataset", "set", "--model", str(model), "--images", "1", "--prompts", "2",
        "--recipes", "dreambooth", "--adapters", "full", "lora",
        "--dino", str(save_vit(tmp_path / "dino")), "--clip", str(save_clip(tmp_path / "clip")),
        "--data.resolution", "32", "--run.steps", "2", "--data.class-images", "2", "--data.class-image-steps", "1",
        "--evaluation.sampler-steps", "1", "--optimizer.learning-rate", "0.01",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--output", "both"])
    assert stopped.value.code == 3
    out = capsys.readouterr().out
    assert "3 of 6 cells failed" in out
    assert "cannot be used" in out or "not a" in out
    # LoRA by itself: nothing of DreamBooth before it may be left in the model
    start = words.index("dreambooth")
    words[start : start + 4] = ["dreambooth@lora"]
    main([*words, "--output", "alone", "--subjects", "old_vase"])

    def rows(name: str) -> list[dict[str, str]]:
        with (tmp_path / name / "results.csv").open() as file:
            return list(csv.DictReader(file))

    both, alone = rows("both"), rows("alone")
    scores = [(r["method"], r["prompt"], r["DINO"], r["CLIP-T"]) for r in both]
    assert [s for s in scores if s[0] != "dreambooth"] == [
        (r["method"], r["prompt"], r["DINO"], r["CLIP-T"]) for r in alone
    ]
    assert len({s[2] for s in scores[::2]}) == 3  # methods differ: something was trained

    # Of a model that was trained on in its place, nothing is added
    shutil.rmtree(model)
    make_model(model, 7)
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--output", "alone", "--subjects", "old_vase", "--seeds", "2"])
    assert stopped.value.code == 2
    assert "alone holds cells of a base model with other weights" in capsys.readouterr().err
    assert len(list((tmp_path / "alone" / "cells").iterdir())) == 2

    # What was written is what the report reads, of a data set that was named from where we stood
    monkeypatch.chdir("/")
    page = read_benchmark(tmp_path / "both")
    assert {problem.where.split(",")[0] for problem in page.problems} == {"dog6"}
    assert len(page.problems) == len(page.missing) == 3
    assert [len(page.references(name)) for name in ("dog6", "old_vase")] == [0, 3]
    assert not page.ignored
    for key in page.cells[["subject", "method", "seed"]].itertuples(index=False, name=None):
        drawn = read_strip(tmp_path / "both", cell_name(key))
        assert np.array_equal(np.stack(page.drawn(key)), drawn)
        written = [float(r["DINO"]) for r in both if r["method"] == key[1]]
        assert page.images_of(key[1]).DINO.tolist() == written
    shutil.move(tmp_path / "set", tmp_path / "gone")
    assert any("no longer where" in warning for warning in read_benchmark(tmp_path / "both").warnings)
