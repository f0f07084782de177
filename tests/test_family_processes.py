"""Every family trains alike on two processes with half of the batch each and on one with the whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from family_processes import run_families, run_family
from jobs import server
from lookforward.algorithm.processes import Processes
from tiny_families import TINY
from two_processes import both, codes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def of_two(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert codes(both(server(), run_families, photos, folder)) == [0, 0]
    return folder


@pytest.mark.parametrize("name", TINY)
def test_two_processes_are_one_with_the_whole_batch(name: str, of_two: Path, photos: Path) -> None:
    first, second = (load_file(of_two / f"{name}-{i}.safetensors") for i in range(2))
    one, begun = run_family(name, photos, Processes()), run_family(name, photos, Processes(), steps=0)
    assert first.keys() == second.keys() == one.keys()
    for key, value in one.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")
    moved = {key.split("/")[0] for key in begun if not torch.allclose(one[key], begun[key], rtol=0, atol=1e-3)}
    assert {"policy", "critic", "generator"} <= moved  # or nothing would have been compared
