"""A benchmark on a Ray cluster on this machine: nothing finished is lost or run again, whoever is killed."""

import csv
import importlib.util
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from errors import raises
from fake_cells import FakeRunner, begun, drive_ray, fake_plan, finish, read_failure
from lookforward.benchmark import ray_join
from lookforward.benchmark.plan import Plan
from lookforward.benchmark.ray_cluster import RayCluster, WorkerResources, divide, require_visible
from lookforward.benchmark.ray_join import require_ray
from lookforward.benchmark.runner import Outcome, prepare, run_grid
from lookforward.cli import main
from tiny_rewards import save_clip, save_vit

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return fake_plan(tmp_path / "things")


@pytest.fixture
def folder(tmp_path: Path, plan: Plan) -> Path:
    prepare(plan, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.txt"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One machine with two cores; tests may add others."""
    with pytest.MonkeyPatch.context() as patch:
        places = [str(Path(__file__).parent), *sys.path]  # where workers find what they are sent
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        for name, value in ray_join.QUIET.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        options = {
            "num_cpus": 2,
            "num_gpus": 0,
            "include_dashboard": False,
            "object_store_memory": ray_join.STORE_BYTES,
        }
        started = Cluster(initialize_head=True, head_node_args=options)
        yield started
        started.shutdown()


def on_ray(plan: Plan, folder: Path, runner: FakeRunner, address: str, workers: int = 2) -> Iterator[Outcome]:
    return run_grid(plan, folder, RayCluster(plan, folder, runner.load, address, workers))


@needs_ray
def test_killed_worker_is_replaced_and_nothing_done_twice(plan: Plan, folder: Path, ledger: Path, cluster: Any) -> None:
    half = Plan(("old_vase",), plan.methods, (0,), None, plan.images, plan.count, plan.dataset)
    before = {outcome.key for outcome in finish(half, folder, FakeRunner(ledger))}
    ledger.unlink()
    deadly = ("old_vase", "dino", 1)
    outcomes = list(on_ray(plan, folder, FakeRunner(ledger, "dog6", deadly, 1, 0.05), cluster.address))
    assert sorted(o.key for o in outcomes) == sorted(plan.cells())
    assert {o.key for o in outcomes if not o.fresh} == before
    assert Counter((o.key[0], o.state) for o in outcomes) == {("dog6", "failed"): 6, ("old_vase", "finished"): 6}
    assert {o.message for o in outcomes if o.state == "failed"} == {"ValueError: dog6 is broken"}
    counts = Counter(begun(ledger))
    assert counts.pop(deadly) == 2  # the one that was killed at it, and another
    assert set(counts) == set(plan.cells()) - before - {deadly}
    assert set(counts.values()) == {1}
    assert not list((folder / "locks").iterdir())

    outcomes = finish(plan, folder, FakeRunner(ledger))  # without Ray, and its photos were put right
    assert {o.state for o in outcomes} == {"finished"}
    assert {o.key[0] for o in outcomes if o.fresh} == {"dog6"}
    assert len(begun(ledger)) == 9 + 1 + 6
    assert not list((folder / "failed").iterdir())
    kept = list(on_ray(plan, folder, FakeRunner(ledger), "127.0.0.1:1"))
    assert [o.key for o in kept] == list(plan.cells())  # and no cluster was joined
    assert len(begun(ledger)) == 16


@pytest.mark.slow
@needs_ray
def test_cell_that_kills_two_is_given_up(plan: Plan, folder: Path, ledger: Path, cluster: Any) -> None:
    deadly = ("dog6", "dino", 0)
    outcomes = list(on_ray(plan, folder, FakeRunner(ledger, deadly=deadly, deaths=99), cluster.address))
    assert [o.key for o in outcomes if o.state == "failed"] == [deadly]
    assert begun(ledger).count(deadly) == 2
    assert len(outcomes) == 12
    record = read_failure(folder, deadly)
    assert record["error"] == "LookforwardError"
    assert not list((folder / "locks").iterdir())


@pytest.mark.slow
@needs_ray
def test_machine_that_dies_leaves_its_cell_to_another(plan: Plan, folder: Path, ledger: Path, cluster: Any) -> None:
    other = cluster.add_node(num_cpus=2, object_store_memory=ray_join.STORE_BYTES)
    gone: list[int] = []
    outcomes = []
    for outcome in on_ray(plan, folder, FakeRunner(ledger, seconds=0.5), cluster.address, 4):
        outcomes.append(outcome)
        if not gone:
            gone.append(1)
            cluster.remove_node(other, allow_graceful=False)
    assert {o.state for o in outcomes} == {"finished"}
    assert sorted(o.key for o in outcomes) == sorted(plan.cells())
    counts = Counter(begun(ledger))
    assert set(counts) == set(plan.cells())
    assert sum(counts.values()) <= 12 + 2  # the two that its workers were at


@pytest.mark.slow
@needs_ray
def test_killed_command_goes_on(plan: Plan, folder: Path, ledger: Path, cluster: Any) -> None:
    context = multiprocessing.get_context("spawn")
    slow = FakeRunner(ledger, seconds=0.3)
    driver = context.Process(target=drive_ray, args=(plan, folder, slow, cluster.address))
    driver.start()
    until = time.monotonic() + 60
    while len(begun(ledger)) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    outcomes = list(on_ray(plan, folder, FakeRunner(ledger), cluster.address))
    assert {o.state for o in outcomes} == {"finished"}
    counts = Counter(begun(ledger))
    assert all(counts[o.key] == 1 for o in outcomes if not o.fresh)
    assert sum(counts.values()) <= 12 + 2
    assert any(not o.fresh for o in outcomes)


@pytest.mark.slow
@needs_ray
def test_machine_that_does_not_see_the_folder_is_reported(
    plan: Plan, folder: Path, ledger: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "touch", lambda *_: None)  # the mark is made where only this process sees it
    with raises("ray-folder-unseen", folder):
        list(on_ray(plan, folder, FakeRunner(ledger), cluster.address))
    assert not begun(ledger)


@pytest.mark.slow
@needs_ray
def test_command_on_a_cluster_of_its_own(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_plan(tmp_path / "set")
    for photo in (tmp_path / "set" / "dog6").iterdir():
        photo.write_bytes(b"no picture")
    (tmp_path / "set" / "prompts_and_classes.txt").write_text("subject_name,class\ndog6,dog\nold_vase,vase\n")
    words = [
        "benchmark", "--dataset", "set", "--model", str(tiny_model), "--images", "1", "--prompts", "2",
        "--recipes", "dreambooth", "--dino", str(save_vit(tmp_path / "dino")),
        "--clip", str(save_clip(tmp_path / "clip")),
        "--data.resolution", "32", "--run.steps", "2", "--data.class-images", "2", "--data.class-image-steps", "1",
        "--evaluation.sampler-steps", "1", "--output",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main([*words, "there", "--ray", "local", "--workers", "2"])
    assert stopped.value.code == 3
    out, err = capfd.readouterr()
    assert "2 of 4 cells failed" in out
    assert "usage" not in err.lower()
    with pytest.raises(SystemExit):
        main([*words, "here"])

    def scores(name: str) -> list[tuple[str, ...]]:
        with (tmp_path / name / "results.csv").open() as file:
            return [(r["method"], r["prompt"], r["DINO"], r["CLIP-T"]) for r in csv.DictReader(file)]

    assert len(scores("there")) == 2 * 2
    for there, here in zip(scores("there"), scores("here"), strict=True):
        assert there[:2] == here[:2]
        assert [float(x) for x in there[2:]] == pytest.approx([float(x) for x in here[2:]], abs=1e-4)


def test_folder_is_known_by_a_mark(folder: Path) -> None:
    mark = folder / "locks" / ".ray-1"
    with raises("ray-folder-unseen", folder, "--output"):
        require_visible(mark, seconds=0.0)
    mark.touch()
    require_visible(mark, seconds=0.0)


@pytest.mark.parametrize(
    ("machines", "workers", "resources"),
    [
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}], None, WorkerResources(4, 1, 0)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"GPU": 2.0}], 3, WorkerResources(3, 1, 0)),
        ([{"GPU": 2.0}], 9, WorkerResources(2, 1, 0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}, {"memory": 1.0}], None, WorkerResources(2, 0, 4)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], 3, WorkerResources(3, 0, 4)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], 4, WorkerResources(4, 0, 2)),
        ([{"CPU": 2.0}], 9, WorkerResources(2, 0, 1)),
    ],
)
def test_resources_are_divided(
    machines: list[Mapping[str, float]], workers: int | None, resources: WorkerResources
) -> None:
    assert divide(machines, workers) == resources


def test_cluster_without_any_room() -> None:
    with raises("ray-without-resources"):
        divide([{"memory": 5.0}, {"CPU": 0.0}], 2)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ray://head:10001", "with --ray auto"),
        ("head", "give HOST:PORT"),
        ("head:99999", "give HOST:PORT"),
        ("", "give HOST:PORT"),
    ],
)
def test_wrong_address(address: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--output", str(tmp_path / "out"), "--ray", address])
    assert stopped.value.code == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_join.importlib.util, "find_spec", lambda _: None)
    with raises("ray-missing", "pip install ray"):
        require_ray("local")


@needs_ray
@pytest.mark.parametrize(
    ("answer", "fact"),
    [(None, "refused"), (b"", "does not answer within"), (b"HTTP/1.1 400 Bad Request\r\n", "is not Ray")],
)
def test_address_without_a_cluster_is_refused_soon(
    answer: bytes | None, fact: str, plan: Plan, folder: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_join, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if answer is None:
            server.close()
        elif answer:
            threading.Thread(target=lambda: server.accept()[0].sendall(answer), daemon=True).start()
        begin = time.monotonic()
        with raises("ray-no-cluster", port, fact):
            list(on_ray(plan, folder, FakeRunner(ledger), f"127.0.0.1:{port}"))
    assert time.monotonic() - begin < 5
    assert not list((folder / "locks").iterdir())


def test_plan_says_that_the_cluster_shares(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_join.importlib.util, "find_spec", lambda _: object())
    words = ["benchmark", "--output", str(tmp_path / "out"), "--ray", "10.0.0.1:6379", "--plan"]
    main(words)
    assert "with 1 worker (one per GPU or machine of the cluster)" in capsys.readouterr().out
    main([*words, "--workers", "8"])
    assert "with 8 workers, " in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
