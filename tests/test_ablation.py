"""`lookforward ablate`, the grid below it and the rewards that it ships, on a tiny model."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from conftest import make_pipeline
from lookforward.benchmark.ablation import ABLATIONS, ablation_curves, method_of, plan_ablation, write_ablation
from lookforward.benchmark.grid import Cell, Plan, spread_prompts, thin
from lookforward.benchmark.summary import optimised_scores
from lookforward.build import Judges
from lookforward.cli import main
from lookforward.config import load_config, recipe_names
from lookforward.errors import LookforwardError
from lookforward.examples.rewards import colourfulness, png_size
from lookforward.generate import use_ddim
from lookforward.prompts import LIVE_PROMPTS, OBJECT_PROMPTS
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.vision import load_clip, load_dino
from tiny_rewards import flat, with_images

Command = Callable[..., tuple[int, str, str]]
SMALL = (
    "--set", "resolution=32", "prior_images=2", "prior_steps=1", "sample_steps=1", "learning_rate=1e-3",
    "--prompts", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def judges(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Judges:
    """A tiny DINO, a tiny CLIP, and the DINO once more for identity."""
    folder = tmp_path_factory.mktemp("judges")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    image = {"image_size": 32, "patch_size": 8, "initializer_range": 0.2}
    ViTModel(ViTConfig(**sizes, **image), add_pooling_layer=False).save_pretrained(folder / "dino")
    shutil.copytree(tiny_model / "tokenizer", folder / "clip")
    text = json.loads((tiny_model / "text_encoder" / "config.json").read_text())
    CLIPModel(CLIPConfig(text_config=text, vision_config={**sizes, **image})).save_pretrained(folder / "clip")
    dino = load_dino(str(folder / "dino"), "cpu")
    return Judges(dino, load_clip(str(folder / "clip"), "cpu"), dino)


@pytest.fixture
def run(
    judges: Judges, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """A command in an empty folder, where Toybox is the tiny model: its status, stdout and stderr."""
    pipeline = make_pipeline()
    use_ddim(pipeline)
    monkeypatch.setattr("lookforward.build.build_pipeline", lambda *_: pipeline)
    monkeypatch.setattr("lookforward.build.build_judges", lambda *_: judges)
    monkeypatch.setattr("lookforward.build.environment.load_dino", lambda *_: judges.dino)
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        return status, *capfd.readouterr()

    return call


def test_frozen_runs_once_and_states_its_difference(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("ablate", "frozen", "--subjects", "teapot-0", "dog-0", "--seeds", 1, "--steps", 12, *SMALL)
    status, out, err = run(*command)
    assert (status, err) == (0, "")
    folder = Path("runs/ablate-frozen")
    table = (folder / "table.md").read_text()
    assert table.startswith("| | DINO | CLIP-I | CLIP-T | identity | oracle | seconds |\n")
    told = (
        r"Reward over the last quarter of the run, critic learns minus critic never learns: [+-][\d.e-]+, "
        r"95% interval \[[+-][\d.e-]+, [+-][\d.e-]+\], 2 pairs of one subject and seed\."
    )
    assert re.search(told, table)
    assert re.search(told, out)
    assert "†" not in table

    with (folder / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 5  # values, subjects, scores
    assert {row["value"] for row in rows} == {"critic learns", "critic never learns"}
    assert {row["images"] for row in rows} == {"2"}
    learns, never = (json.loads((folder / f"cells/frozen-{n}.json").read_text()) for n in LEARNS)
    assert [step for step, _ in learns["curves"]["critic_loss"]] == [10, 12]
    assert [step for step, _ in never["curves"]["reward"]] == [10, 12]
    assert "critic_loss" not in never["curves"]
    assert learns["terms"]["reward"] == pytest.approx(learns["curves"]["reward"][1][1], rel=0.2)
    for name in ("sheet.png", "curves.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 200

    monkeypatch.setattr("lookforward.benchmark.grid.train", lambda *_: 1 / 0)
    status, again, err = run(*command)
    assert (status, err) == (0, "")
    assert again.count("kept") == 4
    assert (folder / "table.md").read_text() == table
    status, _, err = run(*command, "--set", "batch=2")
    assert status == 2
    assert "was run with other settings; give another --output" in err


LEARNS = tuple(f"{part}" for part in ("criticlearns", "criticneverlearns"))
