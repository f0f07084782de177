"""Two processes that share the weights of a run give what one process with the whole batch gives."""

import json
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import server
from lookforward.algorithm.processes import Processes
from sharded import CASES, run_case, run_cases
from two_processes import both, codes


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return server()


@pytest.fixture(scope="module")
def of_two(context: ForkServerContext, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert codes(both(context, run_cases, photos, folder)) == [0, 0]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_that_share_weights_are_one_with_the_whole_batch(name: str, of_two: Path, photos: Path) -> None:
    first, second = (load_file(of_two / f"{name}-{i}.safetensors") for i in range(2))
    one, _ = run_case(name, photos, Processes())
    assert first.keys() == second.keys() == one.keys()
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        if not key.endswith("k_proj.bias"):
            torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")
    shares = [json.loads((of_two / f"shares-{i}.json").read_text())[name] for i in range(2)]
    print(shares)
    assert sum(shares) == pytest.approx(1.0)
