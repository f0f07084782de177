"""benchmarks/gpu.py: every family on a GPU, here as tiny pipelines on a CPU."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lookforward.models.families import FAMILIES, family_of
from lookforward.models.meta import known_sizes
from tiny_families import TINY

ROOT = Path(__file__).parents[1]
SIZES = known_sizes()


@pytest.fixture
def gpu_benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "gpu", raising=False)
    return importlib.import_module("gpu")


def test_the_benchmark_says_that_there_is_no_gpu(
    gpu_benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_benchmark.main([]) == 0
    assert "no CUDA GPU" in capsys.readouterr().out


def size_of(pipeline: Any) -> dict[str, Any]:
    """A pipeline as `known_sizes` describes the published ones."""
    family = family_of(pipeline)
    words = family.encode_prompts(pipeline, ["a photo of a dog"])
    prompt: dict[str, Any] = {"tokens": list(words.tokens.shape[1:]), "mask": words.mask is not None}
    prompt |= {"pooled": list(words.pooled.shape[1:])} if words.pooled is not None else {}
    prompt |= {"extra": {name: list(one.shape[1:]) for name, one in words.extra.items()}}
    parts = [name for name in (family.denoiser, *family.text_encoders, "vae") if getattr(pipeline, name) is not None]
    modules = {}
    for name in parts:
        module = getattr(pipeline, name)
        config = module.config.to_dict() if hasattr(module.config, "to_dict") else dict(module.config)
        modules[name] = [type(module).__module__.partition(".")[0], type(module).__name__, config]
    scheduler = [type(pipeline.scheduler).__name__, dict(pipeline.scheduler.config)]
    return {"pipeline": type(pipeline).__name__, "billions": 1, "prompt": prompt, "scheduler": scheduler,
            "modules": modules}  # fmt: skip


def test_the_benchmark_has_a_real_size_of_every_family() -> None:
    assert {size["pipeline"] for size in SIZES.values()} == {family.pipeline_class for family in FAMILIES}


@pytest.mark.parametrize("family", TINY)
def test_the_benchmark_trains_every_family(
    family: str, gpu_benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_benchmark, "STEPS", 2)
    lines = gpu_benchmark.run({"tiny": size_of(TINY[family]())}, [32], "cpu")
    assert lines == capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    _, name, pixels, seconds, peak, estimate, _ = (one.strip() for one in lines[-1].split("|"))
    assert (name, pixels, peak) == ("tiny", "32", "0.0")
    assert float(seconds) > 0
    assert estimate == "0.0"  # of a GiB


def test_the_benchmark_ends_in_time_and_tries_nothing_that_does_not_fit(
    gpu_benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = SIZES["sd15"], size_of(TINY["sd"]()) | {"billions": 0.1}
    measured: list[int] = []

    def step_by_step(trainer: Any, steps: int) -> Iterator[None]:
        while trainer.step < steps:
            trainer.step += 1
            measured.append(trainer.step)
            yield

    monkeypatch.setattr(gpu_benchmark, "train", step_by_step)
    lines = gpu_benchmark.run({"large": large, "small": small}, [64], "cpu", room=2**29)
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["small", "large"]
    assert measured == list(range(1, gpu_benchmark.WARM + gpu_benchmark.STEPS + 1))
    assert "does not fit" in lines[-1]
    assert gpu_benchmark.measure(small, 32, "cpu", end=0.0)["steps"] == 1  # the time is over
    assert gpu_benchmark.run({"small": small}, [32], "cpu", seconds=-1.0)[-1].endswith("no time left |")
    assert gpu_benchmark.SECONDS <= 540


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_arithmetic_is_near_what_a_gpu_allocates(name: str, gpu_benchmark: Any) -> None:
    found = gpu_benchmark.measure(SIZES[name], 512, "cuda")
    assert found["peak"] == pytest.approx(gpu_benchmark.estimate(SIZES[name], 512) / 2**30, rel=0.3)
