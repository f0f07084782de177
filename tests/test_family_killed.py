"""Of every family: a LoRA of 20 steps that is killed goes on to the same bits, and its card's lines draw elsewhere."""

import json
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest

from documented import draw_elsewhere, replace
from families import SHORT
from jobs import as_options, exported, logged, server, start
from lookforward import load_personalized
from lookforward.exports.card import loading_code
from lookforward.exports.load import read_manifest
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.sampling import draw_images
from tiny_families import TINY

PATIENCE, PROMPT, STEPS = 300, "a photo of sks teapot on the beach", 20
GIVEN = SHORT | {
    "run.steps": STEPS, "run.checkpoint_every": 6, "adapter.name": "lora", "optimizer.learning_rate": 1e-2,
    "objective.prior_weight": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return server()


def finish(context: ForkServerContext, arguments: list[str], cache: Path) -> None:
    process = start(context, arguments, cache=cache)
    process.join(PATIENCE)
    assert process.exitcode == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY)
def test_a_lora_that_is_killed_goes_on_to_the_same_bits_and_plain_diffusers_draws_it_elsewhere(
    family: str, context: ForkServerContext, photos: Path, tmp_path: Path
) -> None:
    model, killed, whole, cache = (tmp_path / name for name in ("model", "killed", "whole", "cache"))
    TINY[family]().save_pretrained(model, safe_serialization=True)
    words = ["train", str(photos), "--class-noun", "teapot", "--model", str(model), *as_options(GIVEN)]
    finish(context, [*words, "--output", str(whole)], cache)
    process = start(context, [*words, "--output", str(killed)], cache=cache)
    while not ((killed / "metrics.jsonl").is_file() and len(logged(killed)) >= 8):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    assert len(logged(killed)) < STEPS
    finish(context, [*words, "--output", str(killed)], cache)
    assert logged(killed) == logged(whole)
    assert exported(killed) == exported(whole)
    assert len(logged(whole)) == STEPS
    # Elsewhere
    export = whole / "export"
    script = "\n".join(loading_code(read_manifest(export), PROMPT, 1)).replace("FOLDER", str(export))
    theirs = draw_elsewhere([replace(script, {'"model"': repr(str(model))})], tmp_path)[0]
    one, asked = load_personalized(whole).pipeline, json.loads((export / "lookforward.json").read_text())
    drawing = {"steps": asked["sample_steps"], "guidance": asked["guidance"], "resolution": asked["resolution"]}
    ours = draw_images(one, [PROMPT], [1], **drawing)[0].astype(int)
    assert np.abs(theirs - ours).max() <= 1
    untouched = draw_images(load_pipeline(model), [PROMPT], [1], **drawing)[0].astype(int)
    assert np.abs(untouched - ours).max() > 3
