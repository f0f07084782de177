"""Two processes that share the weights of a run give what one process with the whole batch gives."""

import json
import shutil
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from errors import raises
from jobs import exported, logged, server, tree
from lookforward.algorithm.processes import Processes
from lookforward.assembly.processes import check_processes
from lookforward.cli import main
from lookforward.config.recipe import load_settings
from lookforward.exports.load import read_manifest
from lookforward.runs.step_choice import read_evaluations
from sharded import CASES, EXPORTS, export_all, export_one, run_case, run_cases
from test_processes import words
from two_processes import both, codes, command

QUICK = "look-forward"


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return server()


@pytest.mark.parametrize(
    "names", [[QUICK], pytest.param([*set(CASES) - {QUICK}], marks=pytest.mark.slow)], ids=["quick", "others"]
)
def test_two_processes_that_share_weights_are_one_with_the_whole_batch(
    names: list[str], context: ForkServerContext, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    assert codes(both(context, run_cases, photos, tmp_path, names)) == [0, 0]
    for name in names:
        first, second = (load_file(tmp_path / f"{name}-{i}.safetensors") for i in range(2))
        one, _, begun = run_case(name, photos, Processes())
        assert first.keys() == second.keys() == one.keys()
        for key, value in one.items():
            assert torch.equal(first[key], second[key]), key
            # Softmax does not see a key's bias: its gradient is rounding alone, which Adam makes whole steps of
            if not key.endswith("k_proj.bias"):
                torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
        moved = {key.split("/")[0] for key, value in begun.items() if ((one[key] - value).abs() > 1e-4).any()}
        assert {"policy", *(["critic"] if name != "draft" else [])} <= moved, moved
        shares = [json.loads((tmp_path / f"shares-{i}.json").read_text())[name] for i in range(2)]
        assert shares == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.slow
def test_a_run_resumes_with_shared_weights_to_the_same_bits_and_without_to_rounding(
    context: ForkServerContext, tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    whole, killed, one = tmp_path / "whole", tmp_path / "killed", tmp_path / "one"
    settings: dict[str, Any] = {"optimizer.ema": 0.9, "run.export_every": 4, "optimizer.learning_rate": 1e-4}

    def given(folder: Path) -> list[str]:
        return [*words(photos, tiny_model, folder, **settings), "--run.shard"]

    assert codes(both(context, command, given(whole), tmp_path)) == [0, 0]
    assert "step 8/8" in (tmp_path / "out-0").read_text()
    assert (tmp_path / "out-1").read_text() == ""
    main(words(photos, tiny_model, one, **settings))
    states = [load_file(folder / "checkpoints" / "step-000008" / "state.safetensors") for folder in (one, whole)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert exported(whole).keys() == exported(one).keys()
    unet = load_file(whole / "export" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(unet[name], states[1][f"average/unet.{name}"]) for name in unet)
    same = [name for name in exported(one) if name.endswith("config.json") or name == "model_index.json"]
    assert same
    assert all(exported(whole)[name] == exported(one)[name] for name in same)
    assert tree(whole / "samples").keys() == tree(one / "samples").keys()
    assert (whole / "exports" / "step-000004" / "lookforward.json").is_file()
    # Killed after a checkpoint, and resumed
    running = both(context, command, given(killed), tmp_path)
    while not ((killed / "metrics.jsonl").is_file() and len(logged(killed)) >= 4):
        assert all(process.is_alive() for process in running)
    for process in running:
        process.kill()
    assert codes(running) == [-signal.SIGKILL] * 2
    shutil.copytree(killed, tmp_path / "resumed")
    assert codes(both(context, command, given(killed), tmp_path)) == [0, 0]
    assert "Continuing after step" in (tmp_path / "out-0").read_text()
    assert exported(killed) == exported(whole)
    assert logged(killed) == logged(whole)
    assert tree(killed / "samples") == tree(whole / "samples")
    # On one process, which holds all weights
    main(words(photos, tiny_model, tmp_path / "resumed", **settings))
    for ours, theirs in zip(logged(tmp_path / "resumed"), logged(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_every_family_shares_its_weights_and_exports_them_whole(
    context: ForkServerContext, photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    assert codes(both(context, export_all, photos, tiny_model, two)) == [0, 0]
    for name in EXPORTS:
        export_one(name, photos, tiny_model, one / name, Processes())
        files = {path.relative_to(one) for path in (one / name).rglob("*") if path.is_file()}
        assert files == {path.relative_to(two) for path in (two / name).rglob("*") if path.is_file()}
        for path in files:
            if path.suffix == ".safetensors":
                ours, theirs = load_file(two / path), load_file(one / path)
                assert {key: value.dtype for key, value in ours.items()} == {k: v.dtype for k, v in theirs.items()}
                # Adam's first step, of 1e-4, goes by a gradient's sign, also where that is rounding alone
                apart = torch.cat([(ours[key] - value).abs().flatten() for key, value in theirs.items()])
                assert (apart < 1e-5).double().mean() > 0.95, path
                assert apart.max() < 3e-4, path
            elif path.suffix == ".json":
                assert (two / path).read_text() == (one / path).read_text(), path


@pytest.mark.slow
def test_the_best_step_is_measured_and_exported_with_shared_weights(
    context: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lookforward.bundle import require_bundle

    subject: Any = require_bundle().subjects()[0]
    subject.write_photos(tmp_path / "photos")
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    words = ["train", str(tmp_path / "photos"), "--class-noun", subject.class_noun, "--device", "cpu", "--steps", "4"]
    words += ["--data.class-images", "2", "--data.class-image-steps", "2", "--evaluation.sampler-steps", "2"]
    words += ["--evaluation.sample-every", "0", "--evaluation.every", "2", "--evaluation.images", "2"]
    words += ["--batch-size", "2", "--output"]
    arguments = [*words, str(tmp_path / "two"), "--run.shard"]
    assert codes(both(context, command, arguments, tmp_path)) == [0, 0], (tmp_path / "err-0").read_text()
    main([*words, str(tmp_path / "one")])
    rows = [read_evaluations(tmp_path / name / "evaluations.jsonl") for name in ("two", "one")]
    for ours, theirs in zip(*rows, strict=True):
        assert (ours.step, ours.loss) == (theirs.step, pytest.approx(theirs.loss, rel=1e-4))
        assert ours.identity == pytest.approx(theirs.identity, abs=1e-2)  # of pixels in whole numbers
    step = read_manifest(tmp_path / "two" / "export")["step"]
    assert step == read_manifest(tmp_path / "one" / "export")["step"] > 0
    assert not (tmp_path / "two" / "candidates").exists()


@pytest.mark.parametrize(
    ("code", "given", "processes", "facts"),
    [
        ("shard-alone", {}, Processes(), ("run.shard", "accelerate launch")),
        ("shard-adapter", {"adapter.name": "neti"}, Processes(0, 2), ("neti", "full", "lora")),
        ("shard-format", {"optimizer.eight_bit": True}, Processes(0, 2), ("optimizer.eight_bit",)),
        ("shard-format", {"adapter.name": "lora", "model.weights": "int8"}, Processes(0, 2), ("int8",)),
        ("processes-fused", {"optimizer.fused": True}, Processes(0, 2), ("optimizer.fused",)),
    ],
)
def test_what_cannot_be_shared_is_refused(
    code: str, given: dict[str, Any], processes: Processes, facts: tuple[str, ...]
) -> None:
    settings = load_settings(
        "look-forward", {"subject.class_noun": "dog", "run.shard": True, "run.batch_size": 2} | given
    )
    with raises(code, *facts):
        check_processes(settings, processes)
