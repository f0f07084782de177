"""The commands that draw, train and measure Toybox."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from conftest import make_pipeline
from errors import raises
from jobs import Command
from lookforward.models.encoders.metadata import read_metadata
from lookforward.models.families.sd import SD
from lookforward_toybox import SHIPPED, Weights
from lookforward_toybox.draw import draw_world
from lookforward_toybox.figure import Figure
from lookforward_toybox.measure import measure
from lookforward_toybox.training.loop import TrainingSchedule, run_stage
from lookforward_toybox.training.stages import MINUTES
from lookforward_toybox.training.state import load_settings, load_state, save_state


def test_all_stages_by_one_command_and_what_they_export_is_measured(command_line: Command, tmp_path: Path) -> None:
    folder = str(tmp_path)
    status, out, _ = command_line("toybox", "draw", "--count", "20", "--workers", "1", "--folder", folder)
    assert (status, "20 images" in out) == (0, True)
    shortest = ("toybox", "train", "--stage", "all", "--folder", folder, "--minutes", "0.0001")  # one step each
    status, out, err = command_line(*shortest)
    assert (status, err) == (0, "")
    assert re.findall(r"^(\w+): exported", out, re.MULTILINE) == list(MINUTES)
    own = Weights(tmp_path / "export")
    files = [path.relative_to(SHIPPED.folder) for path in SHIPPED.folder.rglob("*.safetensors")]
    assert all((own.folder / path).is_file() for path in files)
    # The decoder's stage is the last word on the autoencoder, in the pipeline as well.
    alone, within = (load_file(p / "diffusion_pytorch_model.safetensors")
                     for p in (own.folder / "vae", own.pipeline / "vae"))  # fmt: skip
    assert all(torch.equal(tensor, within[name]) for name, tensor in alone.items())
    written = {stage: read_metadata(own.folder / path) for stage, path in {
        "unet": "pipeline/unet/diffusion_pytorch_model.safetensors", "clip": "clip/model.safetensors",
        "decoder": "pipeline/vae/diffusion_pytorch_model.safetensors", "judge": "judge/model.safetensors",
    }.items()}  # fmt: skip
    for stage, settings in written.items():
        assert (settings["stage"], settings["steps"], settings["seed"]) == (stage, 1, 0)
        assert 0 < settings["minutes"] < 2  # the time that it took, not the time that it was given
        assert settings.get("encoder_training", settings).get("begun_from", "chance") == "chance"
    assert written["decoder"]["encoder_training"]["stage"] == "vae"
    assert written["unet"]["encoder"] == written["decoder"]["encoder"]
    scales = [
        json.loads((p / "config.json").read_text())["scaling_factor"]
        for p in (own.folder / "vae", own.pipeline / "vae")
    ]
    assert scales[0] == scales[1]

    # A decoder's state from before its stage had a name of its own
    tensors, summary = load_state(tmp_path / "decoder")
    summary["settings"] = {k: v for k, v in summary["settings"].items() if k in ("seed", "sizes", "data")}
    save_state(tmp_path / "decoder", tensors, {**summary, "settings": {**summary["settings"], "stage": "vae"}})
    last = ("toybox", "train", "--stage", "decoder", "--folder", folder, "--minutes", "0.0001")
    assert command_line(*last)[0] == 0
    # Longer trainings of a part that others stand on are not mixed with what was trained before
    longer = load_settings(tmp_path / "vae")["minutes"] + 0.05
    vae = ("toybox", "train", "--stage", "vae", "--folder", folder, "--minutes", str(longer))
    assert command_line(*vae)[0] == 0
    encoded = (tmp_path / "unet" / "latents" / "latents.npy").stat().st_mtime_ns
    for stage in ("unet", "decoder"):
        status, _, err = command_line("toybox", "train", "--stage", stage, "--folder", folder, "--minutes", "1")
        assert (status, "vae" in err) == (2, True), err
        shutil.rmtree(tmp_path / "decoder", ignore_errors=True)  # nor by a decoder that was not there yet
    assert (tmp_path / "unet" / "latents" / "latents.npy").stat().st_mtime_ns == encoded
    still = load_file(own.pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(still["encoder.conv_in.weight"], within["encoder.conv_in.weight"])
    assert command_line("toybox", "draw", "--count", "20", "--seed", "1", "--workers", "1", "--folder", folder)[0] == 0
    status, _, err = command_line("toybox", "train", "--stage", "judge", "--folder", folder)
    assert (status, "pictures" in err) == (2, True)

    (untrained,) = islice(measure(4, 0, weights=own), 1)
    (shipped,) = islice(measure(4, 0), 1)
    assert untrained.name == shipped.name == "VAE, PSNR on held-out subjects"
    assert untrained.reached < 15 < 26 < shipped.reached


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_is_stopped_finishes_its_step_and_saves(
    tmp_path: Path, number: int, request: pytest.FixtureRequest
) -> None:
    # As in a terminal: in the background of a script, Ctrl-C is ignored from the start
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.default_int_handler)))
    module = nn.Linear(2, 1)

    def loss(step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if step == 2:
            os.kill(os.getpid(), number)
        return {"loss": module.weight.square().sum()}

    before = signal.getsignal(number)
    schedule = TrainingSchedule(steps=9, learning_rate=0.1)
    with pytest.raises(KeyboardInterrupt):
        list(run_stage(folder=tmp_path, module=module, loss=loss, schedule=schedule, log_every=1))
    assert signal.getsignal(number) is before
    assert torch.equal(load_file(tmp_path / "state.safetensors")["weights.weight"], module.weight)
    rows = list(run_stage(folder=tmp_path, module=module, loss=loss, schedule=schedule, log_every=1))
    assert [row["step"] for row in rows] == [4, 5, 6, 7, 8, 9]


def test_pictures_that_are_half_drawn_are_not_there(tmp_path: Path) -> None:
    def stop(drawn: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_world(tmp_path, 8, workers=1, show=stop)
    assert not (tmp_path / "images.npy").exists()
    draw_world(tmp_path, 8, workers=1)
    assert np.load(tmp_path / "images.npy").any(axis=(1, 2, 3)).all()


def test_what_a_stage_needs(command_line: Command, tmp_path: Path) -> None:
    folder = str(tmp_path)
    train = ("toybox", "train", "--folder", folder, "--stage")
    for words, message in (
        ((*train, "vae"), "lookforward toybox draw"),
        ((*train, "vae", "--minutes", "0"), "--minutes 0"),
        ((*train, "vae", "--device", "abacus"), "abacus"),
        ((*train, "unet"), "unet"),
        ((*train, "decoder"), "decoder"),
        ((*train, "clip", "--init", folder), "--init"),
        (("toybox", "draw", "--folder", folder, "--count", "0"), "--count 0"),
        (("toybox", "draw", "--folder", folder, "--workers", "0"), "1"),
        (("toybox", "check", "--weights", folder, "--edition", "64"), "pipeline"),
        (("toybox", "check", "--images", "0", "--edition", "64"), "--images 0"),
        (("toybox", "check", "--real-photos", folder, "--edition", "64"), folder),
        (("toybox", "check", "--real-photos", tmp_path / "none", "--edition", "64"), "none"),
        (("toybox", "samples", "--weights", folder), "pipeline"),
        (("toybox", "samples", "--output", tmp_path / "a.gif"), ".png"),
        (("toybox", "sheet", "--output", tmp_path / "a"), ".png"),
        (("toybox", "curves", "--folder", folder, "--output", tmp_path / "a"), ".png"),
        (("toybox", "curves", "--folder", folder), "metrics.jsonl"),
        (("toybox", "photos", "--subject", "teapot-9"), "teapot-0"),
        (("toybox", "photos", "--subject", "teapot-0", "--count", "0"), "[1, 20]"),
        (("toybox", "photos", "--subject", "teapot-0", "--count", "21"), "[1, 20]"),
        (("toybox", "draw", "--folder", folder, "--seed", "-1"), "--seed -1"),
        (("toybox", "check", "--seed", "-1"), "--seed -1"),
    ):
        status, _, err = command_line(*words)
        assert (status, "Traceback" in err) == (2, False), words
        assert message in err, err
    draw_world(tmp_path / "data", 8, workers=1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("no photo")
    status, _, err = command_line(*train, "vae", "--real-photos", str(tmp_path / "photos"))
    assert status == 2
    assert "a.jpg" in err


def test_pictures_of_the_world_and_of_its_models(
    command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = command_line("toybox", "photos", "--subject", "stuffed-animal-1", "--count", 4)
    assert status == 0
    assert 'lookforward train photos/stuffed-animal-1 --class-noun "stuffed animal"' in out
    assert len(list((tmp_path / "photos" / "stuffed-animal-1").glob("*.png"))) == 4
    assert command_line("toybox", "photos", "--subject", "stuffed-animal-1", "--count", 3)[0] == 0
    folder = tmp_path / "photos" / "stuffed-animal-1"
    assert len(list(folder.glob("*.png"))) == 3  # none of those before
    Image.new("RGB", (64, 64)).save(folder / "07.png")  # somebody's own
    assert command_line("toybox", "photos", "--subject", "vase-0", "--output", str(folder), "--count", 1)[0] == 0
    assert sorted(path.name for path in folder.glob("*.png")) == ["00.png", "07.png"]
    assert command_line("toybox", "sheet", "--output", "new/sheet.png")[0] == 0
    with Image.open("new/sheet.png") as sheet:
        colours = sheet.convert("RGB").getcolors(sheet.width * sheet.height)
    assert colours is not None
    assert len(colours) > 5000  # photos, not an empty sheet

    pipeline = make_pipeline()
    monkeypatch.setattr(
        "lookforward.models.load_pipeline.build_pipeline", lambda *_: SD.set_sampler(pipeline) or pipeline
    )
    monkeypatch.setattr("lookforward_toybox.samples.draw_images", lambda p, prompts, *_, **__: noise(len(prompts)))
    status, out, _ = command_line("toybox", "samples", "--output", "samples.png", "--edition", 64)
    assert (status, out) == (0, "150 images on samples.png\n")

    (tmp_path / "build" / "judge").mkdir(parents=True)
    rows = "".join(f'{{"minutes": {i}, "loss": {9 - i}}}\n' for i in range(3))
    (tmp_path / "build" / "judge" / "metrics.jsonl").write_text(rows)
    status, out, _ = command_line("toybox", "curves", "--folder", "build")
    assert (status, out) == (0, "1 stages on curves.png\n")
    with Image.open("curves.png") as plot:
        assert plot.width > 300


def test_figures_are_shown_beside_their_goals_also_if_the_rest_never_comes(
    command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> Iterator[Figure]:
        yield Figure("ceiling, objects, DINO", None, 0.834, 0.021)
        raise KeyboardInterrupt

    monkeypatch.setattr("lookforward_toybox.measure.bounds", stopped)
    monkeypatch.setattr("lookforward_toybox.measure.draw_images", lambda p, prompts, *_, **__: noise(len(prompts), 64))
    status, out, _ = command_line("toybox", "check", "--images", "4", "--edition", 64)
    assert status == 130
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in out.splitlines()]
    found = {row[0]: row[1:] for row in rows if len(row) == 4}
    assert found["ceiling, objects, DINO"] == ["", "0.834", "0.021"]
    goals = {name: row[0] for name, row in found.items() if row[0]}
    assert goals == {
        "figure": "goal",
        "VAE, PSNR on held-out subjects": "27 dB",
        "DINO, same subject among 30, top 1": "0.8",
        "CLIP, right caption among 100": "0.9",
        "drawn images, class right by the judge": "0.9",
        "drawn images, scene right by the judge": "0.9",
        "drawn images, colour right by the judge": "0.8",
    }
    assert {"drawn images, outfit right by the judge", "drawn images, look right by the judge"} <= found.keys()
    assert (
        float(found["the judge on the world's own, class"][1])
        > 0.5
        > float(found["drawn images, class right by the judge"][1])
    )  # of noise


def test_a_log_that_was_cut_off_does_not_end_a_training(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    train = partial(run_stage, folder=tmp_path, module=module, log_every=1,
                    loss=lambda *_: {"loss": module.weight.square().sum()})  # fmt: skip
    list(train(schedule=TrainingSchedule(steps=3, learning_rate=0.1)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "minu')
    list(train(schedule=TrainingSchedule(steps=5, learning_rate=0.1)))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]


def noise(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_stage_does_not_go_on_with_other_settings(command_line: Command, tmp_path: Path) -> None:
    draw_world(tmp_path / "data", 8, workers=1)
    train = ("toybox", "train", "--folder", str(tmp_path), "--stage", "judge", "--minutes", "0.0001")
    assert command_line(*train)[0] == 0
    assert command_line(*train)[0] == 0  # the same again: nothing left to do
    status, _, err = command_line(*train, "--seed", "1")
    assert status == 2
    assert "seed: 0" in err


def test_other_weights_than_the_shipped_ones_are_complete(tmp_path: Path) -> None:
    with raises("toybox-weights-missing", "lookforward toybox train"):
        next(measure(4, 0, weights=Weights(tmp_path)))
