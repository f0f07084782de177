"""Two bundled models: the world is drawn for the model, and what was made on "toybox" stays with its model."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from errors import raises
from jobs import SETTINGS, Command, as_options
from lookforward.benchmark.datasets.find import bundled_dataset, find_dataset
from lookforward.benchmark.datasets.values import provide_photos
from lookforward.bundle import TOYBOX, require_bundle
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.exports.card import loading_code
from lookforward.exports.load import manifest_of, read_manifest, write_model
from lookforward.exports.source import find_source
from lookforward.files import read_json, write_json
from lookforward.models.encoders import to_unit
from lookforward.runs.folder import MANIFEST, open_run, prepare
from lookforward_toybox.bundle import known_drawing
from lookforward_toybox.comparisons.ablations import ABLATIONS, plan_ablation
from lookforward_toybox.models import MODELS, WEIGHTS
from lookforward_toybox.oracle.alignment import OracleScore
from lookforward_toybox.subjects import reference_photos, write_photos
from lookforward_toybox.world.edition import EDITION_128
from lookforward_toybox.world.subject import held_out
from tiny_sd3 import make_sd3

FLOW = "toybox-128"
QUICK = as_options({name: value for name, value in SETTINGS.items() if name != "run.steps"})
DIGEST = MODELS["toybox-sd"].digest


@pytest.fixture(scope="module")
def tiny_flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    made: Any = make_sd3(t5=False)
    made.text_encoder.config.absent_t5_tokens = 1  # as `toybox train` writes it
    made.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def flow(tiny_flow: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny pipeline stands in for the 128-pixel model, and the 64-pixel model's encoders for its encoders."""
    stand_in = replace(MODELS[FLOW], pipeline=tiny_flow, encoders=MODELS["toybox-sd"].encoders)
    monkeypatch.setitem(MODELS, FLOW, stand_in)
    return tiny_flow


@pytest.fixture
def switched(flow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 128-pixel model is the default one."""
    monkeypatch.setitem(MODELS, TOYBOX, MODELS[FLOW])
    assert load_settings("dreambooth", {}).data.resolution == 128


@pytest.mark.usefixtures("flow")
def test_a_flow_model_of_the_bundle_from_photos_to_the_report(
    command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*words: object) -> str:
        status, out, err = command_line(*words)
        assert status == 0, err
        return out

    monkeypatch.chdir(tmp_path)
    out = call("toybox", "photos", "--subject", "vase-0", "--edition", 128)
    assert "lookforward train photos/vase-0 --class-noun vase --model toybox-128" in out
    asked = ("--recipe", "look-forward", "--model", FLOW, "--steps", 2, "--output", "run", *QUICK)
    call("train", "photos/vase-0", "--class-noun", "vase", *asked)
    code = "\n".join(loading_code(read_manifest(Path("run/export")), "a vase", 0))
    assert 'from_pretrained("FOLDER", text_encoder_3=None, tokenizer_3=None)' in code
    assert "max_sequence_length=1" in code
    plain: Any = DiffusionPipeline.from_pretrained("run/export", text_encoder_3=None, tokenizer_3=None)
    assert plain.transformer.config["sample_size"] == 8
    call("generate", "run", "a photo of sks vase", "--count", 1, "--output", "drawn")
    with Image.open("drawn/a-photo-of-sks-vase-0.png") as image:
        assert image.size == (32, 32)

    grid = ("--recipes", "dreambooth", "--subjects", "clock-0", "--prompts", 2, "--images", 1, "--run.steps", 1, *QUICK)
    call("benchmark", "--model", FLOW, "--output", "bench", *grid)
    with Image.open("bench/photos/clock-0/00.png") as photo:
        assert photo.size == (128, 128)
    described = read_json(Path("bench/benchmark.json"), dict[str, Any])
    assert (described["model"], described["dataset"]["name"]) == (FLOW, "toybox at 128 pixels")
    assert "oracle" in Path("bench/results.csv").read_text(encoding="utf-8").splitlines()[0]
    call("report", "bench")
    page = next(Path("bench").glob("report*/index.html"), None) or next(Path("bench").glob("*.html"))
    assert FLOW in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("flow")
def test_each_untouched_model_is_drawn_as_it_should_be() -> None:
    drawn = {name: find_source(name).manifest for name in ("toybox-sd", FLOW)}
    assert {name: (one["sample_steps"], one["guidance"]) for name, one in drawn.items()} == {
        "toybox-sd": (50, 7.5), FLOW: (28, 4.0),
    }  # fmt: skip


@pytest.mark.usefixtures("flow")
def test_comparisons_are_of_the_model_that_is_named(command_line: Command, tmp_path: Path) -> None:
    plan = plan_ablation(ABLATIONS["discount"], ["vase-0"], [0], {}, model=FLOW)
    assert (plan.model, plan.subject("vase-0").edition) == (FLOW, 128)
    assert plan_ablation(ABLATIONS["discount"], ["vase-0"], [0], {}).model == TOYBOX
    grid = ("--recipes", "dreambooth", "--subjects", "vase-0", "--seeds", 1, "--prompts", 1, "--run.steps", 1, *QUICK)
    status, _, err = command_line("compare", "--model", FLOW, "--output", tmp_path / "out", *grid)
    assert status == 0, err
    with Image.open(tmp_path / "out" / "photos" / "vase-0" / "00.png") as photo:
        assert photo.size == (128, 128)
    status, _, err = command_line("compare", "--output", tmp_path / "out", *grid)  # on toybox
    assert (status, "--output" in err) == (2, True)


def test_a_data_set_is_drawn_in_the_edition_of_the_model(tmp_path: Path) -> None:
    subject = pickle.loads(pickle.dumps(find_dataset("toybox", FLOW).find("clock-0")))
    drawing = subject.drawing()
    assert np.array_equal(drawing, EDITION_128.drawing(held_out()["clock-0"], 128))
    folder = provide_photos(subject, tmp_path)
    with Image.open(folder / "00.png") as photo:
        assert np.array_equal(np.asarray(photo), reference_photos("clock-0", size=128)[0])
    assert np.array_equal(np.asarray(known_drawing(folder)), drawing)
    for model in ("toybox-sd", "elsewhere"):
        data = bundled_dataset("toybox", model)
        assert (data.name, data.find("clock-0").edition) == ("toybox", MODELS[TOYBOX].size)
        with raises("photos-edition", "128 pixels", "needs 64", "--output"):
            provide_photos(data.find("clock-0"), tmp_path)


def test_photos_of_another_edition_are_replaced(tmp_path: Path) -> None:
    write_photos("clock-0", tmp_path)
    write_photos("clock-0", tmp_path, 3, 128)
    assert len(list(tmp_path.glob("*.png"))) == 3
    write_photos("vase-0", tmp_path, 2)
    sizes = {Image.open(path).size for path in tmp_path.glob("*.png")}
    assert (len(list(tmp_path.glob("*.png"))), sizes) == (2, {(64, 64)})


def test_the_oracle_finds_the_subject_of_a_detailed_picture() -> None:
    names = ("dog-1", "dog-5", "toy-1")
    photos = to_unit(np.concatenate([reference_photos(name, 1, 128) for name in names]))
    scores = torch.stack([
        OracleScore(torch.from_numpy(EDITION_128.drawing(held_out()[name], 128)).permute(2, 0, 1))(photos, [""] * 3)
        for name in names
    ])  # fmt: skip
    assert scores.argmax(dim=0).tolist() == [0, 1, 2]
    assert scores.diagonal().mean() > 0.85


def test_an_edition_without_weights_says_so(
    command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTS, 128, replace(WEIGHTS[128], folder=tmp_path))
    for command in ("check", "samples"):
        status, _, err = command_line("toybox", command, "--edition", 128)
        assert (status, "--edition 128 needs --weights" in err) == (2, True), err


def old_settings(photos: Path) -> Settings:
    """Those of a run on the 64-pixel model, when it was called toybox."""
    given = {"subject.photos": str(photos), "subject.class_noun": "teapot"}
    return load_settings("dreambooth", given)


@pytest.fixture
def earlier(photos: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Settings]:
    """A run of that time, with its export."""
    settings, folder = old_settings(photos), tmp_path / "run"
    run = prepare(folder, settings, ["a"])
    run.begin(["a"])
    write_model(folder, settings, DIGEST, "")
    run.export.mkdir()
    write_json(run.export / MANIFEST, manifest_of(settings, DIGEST))
    request.getfixturevalue("switched")
    return folder, settings


def test_what_was_made_on_toybox_stays_on_its_model(earlier: tuple[Path, Settings]) -> None:
    folder, settings = earlier
    assert load_settings("dreambooth", {}).data.resolution == require_bundle().MODELS[FLOW].size
    assert settings.data.resolution == 64
    assert open_run(folder).settings.model.name == "toybox-sd"
    source = find_source(folder)
    assert (source.manifest["model"], source.manifest["resolution"]) == ("toybox-sd", 64)
    assert "# MODEL: the folder that lookforward_toybox.MODEL names" in loading_code(
        source.manifest | {"adapter": "lora"}, "a dog", 0
    )


def test_an_earlier_run_goes_on_with_toybox_sd(earlier: tuple[Path, Settings], photos: Path) -> None:
    folder, _ = earlier
    with raises("run-differs", "toybox-sd", "now 'toybox'", "--model toybox-sd"):
        prepare(folder, old_settings(photos), ["a"])
    named = {"model.name": "toybox-sd", "subject.photos": str(photos), "subject.class_noun": "teapot"}
    assert prepare(folder, load_settings("dreambooth", named), ["a"]).folder == folder
