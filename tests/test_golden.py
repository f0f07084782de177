"""Results stay what they were: the golden runs, recorded before the code was last rebuilt, drawn and trained again."""

import json
import os

import pytest
import torch

from golden.runs import CASES, RECORD, machine, run_case
from lookforward_toybox.subjects import write_photos

FAST = (("look-forward", "full"), ("look-forward", "p-plus"))
GOLDEN = json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.fixture
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("recipe", "adapter"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES]
)
def test_run_is_as_recorded(recipe, adapter, tmp_path, one_thread):
    photos = tmp_path / "teapot-0"
    write_photos("teapot-0", photos)
    now, then = run_case(recipe, adapter, photos, tmp_path / "run"), GOLDEN["cases"][f"{recipe}/{adapter}"]
    same_machine = machine() == GOLDEN["machine"] and "OPENBLAS_CORETYPE" not in os.environ
    assert len(now["terms"]) == len(then["terms"])
    for step, (a, b) in enumerate(zip(now["terms"], then["terms"], strict=True), start=1):
        assert a == pytest.approx(b, rel=1e-6 if same_machine else 1e-2, abs=1e-6 if same_machine else 1e-3), step
    if same_machine:
        assert (now["weights"], now["image"]) == (then["weights"], then["image"])
