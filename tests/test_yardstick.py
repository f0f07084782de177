"""What stands between diffusers' training scripts and benchmarks/: a model they load, and torchvision's transforms."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro
from diffusers import StableDiffusion3Pipeline
from PIL import Image

from families import PROMPT
from lookforward.cli.options import RunOptions
from lookforward.config.reading import flatten
from lookforward.config.recipe import load_settings
from lookforward.models.policy import DiffusionPolicy
from tiny_sd3 import make_sd3

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def without_t5(tmp_path: Path) -> Path:
    make_sd3(t5=False).save_pretrained(tmp_path / "given")
    return tmp_path / "given"


@torch.no_grad()
def test_the_flow_script_gets_t5_and_77_positions(benchmarks: Any, without_t5: Path, tmp_path: Path) -> None:
    side = benchmarks("sides").find_side(str(without_t5), tmp_path)
    assert side.flow
    assert side.size == 32
    made: Any = StableDiffusion3Pipeline.from_pretrained(side.model)
    bare: Any = StableDiffusion3Pipeline.from_pretrained(without_t5, text_encoder_3=None, tokenizer_3=None)
    known, found = bare.tokenizer.model_max_length, DiffusionPolicy(made).encode_prompts([PROMPT])
    given = DiffusionPolicy(bare).encode_prompts([PROMPT])
    assert found.tokens.shape == (1, 77 + 256, 32)
    torch.testing.assert_close(found.tokens[:, :known], given.tokens[:, :known])  # the places that it had are as before
    torch.testing.assert_close(found.pooled, given.pooled)
    assert found.tokens[:, 77:].any()  # T5 answers
    for name, tensor in bare.transformer.state_dict().items():
        assert torch.equal(tensor, made.transformer.state_dict()[name])


def test_both_sides_train_the_same_parts(benchmarks: Any, without_t5: Path, tmp_path: Path) -> None:
    sides = benchmarks("sides")
    flow, sd = sides.find_side(str(without_t5), tmp_path), sides.find_side("toybox-sd", tmp_path)
    given = {side: sides.script_arguments(side_of, *map(Path, "pco"), 5) for side, side_of in (("f", flow), ("s", sd))}
    assert "--train_text_encoder" in given["s"]
    assert "--train_text_encoder" not in given["f"]
    assert not load_settings("look-forward", flow.settings).adapter.train_text_encoder
    assert load_settings("look-forward", sd.settings).adapter.train_text_encoder
    assert list(flow.own(["best"])) == ["best", "best without T5"]
    assert flow.own(["best"])["best without T5"][1]["model.name"] == str(without_t5)
    assert list(sd.own(["best"])) == ["best"]
    assert given["f"][given["f"].index("--max_sequence_length") + 1] == 256


def test_settings_become_options_that_the_command_reads(benchmarks: Any) -> None:
    given = {"adapter.train_text_encoder": False, "data.flip": True, "data.resolution": 32, "model.name": "a folder"}
    read = tyro.cli(RunOptions, args=benchmarks("sides").as_options(given))
    assert flatten(read) == given


def test_transforms_do_what_the_scripts_ask_for(benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        monkeypatch.setitem(sys.modules, name, sys)  # so that they are put back
    benchmarks("torchvision_transforms").install()
    from torchvision import transforms  # pyright: ignore[reportMissingImports]
    from torchvision.transforms.functional import crop  # pyright: ignore[reportMissingImports]

    image = Image.linear_gradient("L").convert("RGB").resize((40, 80))
    small = transforms.Resize(20, interpolation=transforms.InterpolationMode.BILINEAR)(image)
    assert small.size == (20, 40)
    for make in (transforms.CenterCrop, transforms.RandomCrop):
        assert make(20)(small).size == (20, 20)
    top, left, height, width = transforms.RandomCrop(20).get_params(small, (16, 12))
    assert (height, width) == (16, 12)
    assert top in range(25)
    assert left in range(9)
    assert crop(small, top, left, height, width).size == (12, 16)
    whole = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])(small)
    assert whole.shape == (3, 40, 20)
    assert float(whole.min()) < -0.9
    assert float(whole.max()) > 0.9
