"""Drawing: seeds decide, with every scheduler; what was drawn is written beside it; the command says what is wrong."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from conftest import make_pipeline, save_image
from errors import raises
from exports import make_export
from jobs import Command
from lookforward import __version__, load_personalized
from lookforward.config.reading import structure
from lookforward.exports.load import read_manifest
from lookforward.exports.png import PngMetadata, read_metadata, write_png
from lookforward.models.families.sd import SD
from lookforward.models.latents import encode
from lookforward.models.sampling import SchedulerName, draw_images
from lookforward.runs.folder import Run

SCHEDULERS = get_args(SchedulerName)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    made = make_pipeline()
    SD.set_sampler(made)
    return made


@pytest.fixture(scope="module")
def teapot(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_export(tmp_path_factory.mktemp("teapot") / "teapot", tiny_model, "full", size=0.02)


@pytest.fixture(scope="module")
def lora(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    given: dict[str, Any] = {"subject.identifier": "zwx"}
    return make_export(tmp_path_factory.mktemp("lora") / "style", tiny_model, "lora", seed=2, **given)


@pytest.fixture
def run(command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *words: command_line("generate", *words)


def draw(pipeline: StableDiffusionPipeline, seeds: list[int], **settings: object) -> np.ndarray:
    prompts = ["a photo of a red dog", "a vase in the snow", "a teapot"]
    given = {"steps": 3, "guidance": 3.0, **settings}
    return draw_images(pipeline, [prompts[seed % 3] for seed in seeds], seeds, **given).astype(int)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_seed_gives_its_image_whatever_is_drawn_beside_it(scheduler: str, pipeline: StableDiffusionPipeline) -> None:
    together = draw(pipeline, [5, 1, 2], scheduler=scheduler)
    for i, seed in enumerate([5, 1, 2]):
        alone = draw(pipeline, [seed], scheduler=scheduler)[0]
        assert np.abs(alone - together[i]).max() <= 1, seed  # the last bit may differ in a batch
    assert np.abs(together[0] - together[2]).max() > 5


def test_schedulers_draw_differently_and_leave_the_pipeline_as_it_was(pipeline: StableDiffusionPipeline) -> None:
    own = pipeline.scheduler
    images = {name: draw(pipeline, [0], scheduler=name)[0] for name in SCHEDULERS}
    assert pipeline.scheduler is own
    assert (draw(pipeline, [0])[0] == images["ddim"]).all()  # DDIM is the policy's own
    assert isinstance(own, DDIMScheduler)
    for one in SCHEDULERS:
        for other in SCHEDULERS:
            assert one == other or np.abs(images[one] - images[other]).max() > 1, (one, other)
    with raises("scheduler-unknown", "'plms'", "ddim, ddpm, dpm++, euler, unipc"):
        draw(pipeline, [0], scheduler="plms")


def test_a_scheduler_keeps_the_models_noise_schedule_and_prediction() -> None:
    seen = []
    made = make_pipeline(prediction="v_prediction")
    SD.set_sampler(made)
    made.unet.register_forward_hook(lambda *_: seen.append(dict(made.scheduler.config)))
    for name in SCHEDULERS:
        draw_images(made, ["a teapot"], [0], steps=1, guidance=1.0, scheduler=name)
    assert {config["prediction_type"] for config in seen} == {"v_prediction"}
    assert {config["beta_end"] for config in seen} == {0.012}
    assert len(seen) >= len(SCHEDULERS)


def test_ddim_takes_what_another_sampler_does_not_say_from_stable_diffusion() -> None:
    made = make_pipeline()
    SD.set_sampler(made)
    wanted = dict(made.scheduler.config)
    other = make_pipeline()
    other.scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    assert "clip_sample" not in other.scheduler.config
    SD.set_sampler(other)
    found = dict(other.scheduler.config)
    for name in ("clip_sample", "steps_offset", "set_alpha_to_one", "prediction_type", "beta_end", "beta_schedule"):
        assert found[name] == wanted[name], name
    (ours,) = draw_images(made, ["a teapot"], [0], steps=3, guidance=1.0)
    (theirs,) = draw_images(other, ["a teapot"], [0], steps=3, guidance=1.0)
    assert (ours == theirs).mean() > 0.5  # the timesteps may be spaced otherwise by one
    clipping: Any = make_pipeline()
    clipping.scheduler = DDIMScheduler.from_config(wanted, clip_sample=True)
    SD.set_sampler(clipping)
    sampler: Any = clipping.scheduler
    assert not sampler.config["clip_sample"]


def test_a_negative_prompt_leads_away(pipeline: StableDiffusionPipeline) -> None:
    plain = draw(pipeline, [0])
    assert (draw(pipeline, [0], negative="") == plain).all()
    assert np.abs(draw(pipeline, [0], negative="a vase in the snow") - plain).max() > 1
    with raises("negative-without-guidance", "guidance = 1"):
        draw(pipeline, [0], negative="a vase", guidance=1.0)


DRAWING = PngMetadata(
    prompt='a "sks" teapot,\non the beach ☕', seed=2**62, steps=7, guidance=2.5, scheduler="dpm++", size=8,
    model="my, model", model_hash="0123456789", negative="Steps: none",
    adapters=[{"name": "style", "adapter": "lora", "strength": 0.5, "hash": "abc"}], version="1.2",
)  # fmt: skip


def test_a_picture_says_how_it_was_drawn(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, pixels, DRAWING)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert read_metadata(tmp_path / "a.png") == DRAWING
    with Image.open(tmp_path / "a.png") as image:
        assert (np.asarray(image) == pixels).all()
        assert image.info["parameters"].splitlines() == [
            'a "sks" teapot,', "on the beach ☕", "Negative prompt: Steps: none",
            "Steps: 7, Sampler: DPM++ 2M, CFG scale: 2.5, Seed: 4611686018427387904, Size: 8x8, "
            'Model hash: 0123456789, Model: "my, model", Adapters: "style (lora, 0.5)", Version: lookforward 1.2',
        ]  # fmt: skip
        assert json.loads(image.info["lookforward"]) == {"format": 1, **dataclasses.asdict(DRAWING)}


def test_pictures_that_say_nothing(tmp_path: Path) -> None:
    with raises("png-unreadable", tmp_path / "no.png"):
        read_metadata(tmp_path / "no.png")
    (tmp_path / "text.png").write_text("hello")
    with raises("png-unreadable", tmp_path / "text.png"):
        read_metadata(tmp_path / "text.png")
    with raises("png-metadata", tmp_path / "plain.png"):
        read_metadata(save_image(tmp_path / "plain.png"))
    for text in ("{", "[]", '{"prompt": "x"}', json.dumps({**dataclasses.asdict(DRAWING), "steps": "many"})):
        notes = PngInfo()
        notes.add_text("lookforward", text)
        Image.new("RGB", (2, 2)).save(tmp_path / "odd.png", pnginfo=notes)
        with raises("png-metadata", tmp_path / "odd.png"):
            read_metadata(tmp_path / "odd.png")


def test_the_command_draws_with_an_export(run: Command, teapot: Path, tmp_path: Path) -> None:
    words = ["--seeds", 3, 11, "--scheduler", "ddpm", "--negative", "a vase", "--steps", 3, "--guidance", 2]
    status, out, err = run(teapot, "a photo of {} on the beach", *words, "--output", "out")
    assert (status, err) == (0, "")
    name = "a-photo-of-sks-teapot-on-the-beach"
    assert out == f"2 images and {name}-sheet.png in out\n"
    said = read_metadata(tmp_path / "out" / f"{name}-11.png")
    assert said == PngMetadata(
        "a photo of sks teapot on the beach", 11, 3, 2.0, "ddpm", 32, "teapot", said.model_hash, "a vase", [],
        __version__, "teapot",
    )  # fmt: skip
    same = load_personalized(teapot).generate(
        said.prompt, seed=11, steps=3, guidance=2.0, negative="a vase", scheduler="ddpm"
    )[0]
    with Image.open(tmp_path / "out" / f"{name}-11.png") as image:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(same)).max() <= 1
    run(teapot, "--like", f"out/{name}-11.png", "--output", "again")
    again = tmp_path / "again" / f"{name}-11.png"
    assert read_metadata(again) == said
    with Image.open(again) as image:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(same)).max() <= 1


def test_an_image_of_another_prompt_is_never_overwritten(run: Command, teapot: Path, tmp_path: Path) -> None:
    def files() -> dict[str, str]:
        return {p.name: read_metadata(p).prompt for p in (tmp_path / "images").glob("*-[01].png")}

    for prompt in ("a sks teapot", "a sks teapot!", "a sks teapot"):
        assert run(teapot, prompt, "--count", 2, "--steps", 1)[0] == 0
    drawn = {"a-sks-teapot-0.png", "a-sks-teapot-1.png"}, {"a-sks-teapot-2-0.png", "a-sks-teapot-2-1.png"}
    assert {name for name, prompt in files().items() if prompt == "a sks teapot"} == drawn[0]
    assert {name for name, prompt in files().items() if prompt == "a sks teapot!"} == drawn[1]
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a-vase-0.png")  # somebody else's
    assert run(teapot, "a vase", "--count", 1, "--steps", 1)[0] == 0
    assert read_metadata(tmp_path / "images" / "a-vase-2-0.png").prompt == "a vase"
    with Image.open(tmp_path / "images" / "a-vase-0.png") as image:
        assert image.size == (8, 8)


def test_nothing_that_was_drawn_otherwise_is_overwritten(run: Command, teapot: Path, tmp_path: Path) -> None:
    first = [teapot, "a sks teapot", "--count", 2, "--steps", 1]
    folder = tmp_path / "images"
    assert run(*first)[0] == 0
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept.keys() == {f"a-sks-teapot-{end}.png" for end in ("0", "1", "sheet")}
    assert run(*first)[0] == 0  # the very same
    assert {path.name for path in folder.iterdir()} == kept.keys()
    for number, other in enumerate((["--steps", 2], ["--guidance", 2], ["--scheduler", "ddpm"]), start=2):
        like = ["--like", "images/a-sks-teapot-1.png", *other]
        status, out, _ = run(teapot, *like)
        assert (status, out) == (0, f"1 image and a-sks-teapot-{number}-sheet.png in images\n")
        assert (folder / f"a-sks-teapot-{number}-1.png").is_file()
    status, out, _ = run(*first[:2], "--count", 1, "--steps", 1)  # one of the two: another sheet
    assert (status, out) == (0, "1 image and a-sks-teapot-sheet-2.png in images\n")
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    Image.new("RGB", (8, 8)).save(folder / "sheet.png")  # somebody else's
    (tmp_path / "p.txt").write_text("a {}\na red {}\n")
    status, out, _ = run(teapot, "--prompts", "p.txt", "--count", 1, "--steps", 1)
    assert (status, out) == (0, "2 images and sheet-2.png in images\n")


def test_the_end_of_a_prompt_that_is_not_read_is_reported(run: Command, teapot: Path) -> None:
    status, out, _ = run(teapot, "a sks teapot " + 80 * "very ", "--count", 1, "--steps", 1)
    assert status == 0
    assert re.search(
        r"^Note: 'a sks teapot very .*'… has \d+ tokens; the model reads the first \d+$", out, re.MULTILINE
    )
    assert "Note" not in run(teapot, "a sks teapot", "--count", 1, "--steps", 1)[1]


def test_large_images_go_through_the_autoencoder_one_by_one(
    pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    pipeline.vae.decoder.register_forward_hook(lambda _, given, __: decoded.append(len(given[0])))
    together = draw(pipeline, [0, 1, 2])
    monkeypatch.setattr("lookforward.models.sampling.LARGE", 32)
    apart = draw(pipeline, [0, 1, 2])
    assert decoded == [3, 1, 1, 1]
    assert np.abs(together - apart).max() <= 1
    draw(pipeline, [0], resolution=16)
    assert not pipeline.vae.use_slicing
    images = torch.rand(3, 3, 32, 32)
    whole = encode(pipeline, images)
    monkeypatch.setattr("lookforward.models.latents.LARGE", 32)
    torch.testing.assert_close(encode(pipeline, images).mean, whole.mean, rtol=1e-4, atol=1e-5)


def test_a_run_of_another_machines_device_draws_on_what_is_here(run: Command, teapot: Path, tmp_path: Path) -> None:
    manifest = read_manifest(teapot)
    given = {"subject.class_noun": "teapot", "model.name": manifest["model"], "model.device": "cuda:99"}
    Run(tmp_path / "run", structure(given, "test")).begin([])
    shutil.copytree(teapot, tmp_path / "run" / "export")
    status, out, err = run("run", "a sks teapot", "--count", 1, "--steps", 1)
    assert (status, err) == (0, "")
    assert out == f"1 image and a-sks-teapot-sheet.png in {Path('run') / 'images'}\n"


def test_a_file_of_prompts(run: Command, teapot: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a {} in the snow\n# a comment\na {}, in the snow\na vase\n")
    status, out, err = run(teapot, "--prompts", "prompts.txt", "--count", 2, "--seed", 7, "--steps", 1)
    assert (status, err) == (0, "")
    assert out == (
        "Note: 1 of 3 prompts do not hold 'sks', so the images may not show your subject.\n"
        "6 images and sheet.png in images\n"
    )
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "a-sks-teapot-in-the-snow-2-7.png", "a-sks-teapot-in-the-snow-2-8.png", "a-sks-teapot-in-the-snow-7.png",
        "a-sks-teapot-in-the-snow-8.png", "a-vase-7.png", "a-vase-8.png", "sheet.png",
    ]  # fmt: skip
    assert read_metadata("images/a-sks-teapot-in-the-snow-2-8.png").prompt == "a sks teapot, in the snow"


def test_prompts_that_come_twice(run: Command, teapot: Path, tmp_path: Path) -> None:
    lines = ["a {} in the snow", "a  sks teapot in  the snow", "a vase", "A vase", "a {identifier} teapot in the snow"]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    status, out, err = run(teapot, "--prompts", "prompts.txt", "--seeds", 7, 9, "--steps", 1)
    assert (status, err) == (0, "")
    assert (
        "Note: 5 prompts of prompts.txt contain 3 different ones; each is generated once per seed: the same seed" in out
    )
    assert "Note: 2 of 3 prompts do not hold 'sks'" in out
    assert out.endswith("6 images and sheet.png in images\n")
    names = [path.name for path in (tmp_path / "images").glob("*-[79].png")]
    assert len({name.casefold() for name in names}) == len(names) == 6  # on a disk that takes A for a, too
    with Image.open(tmp_path / "images" / "sheet.png") as sheet:
        assert sheet.height > 3 * sheet.width / 2  # a row for each prompt, of two seeds


def test_a_plain_pipeline_folder(run: Command, tiny_model: Path, tmp_path: Path) -> None:
    status, out, err = run(tiny_model, "a red dog", "--count", 1, "--steps", 1)
    assert (status, err, out) == (0, "", "1 image and a-red-dog-sheet.png in images\n")
    said = read_metadata("images/a-red-dog-0.png")
    assert (said.model, said.adapters, said.guidance) == (tiny_model.name, [], 7.5)
    status, _, err = run(tiny_model, "a {} on the beach")
    assert status == 2
    assert "{}" in err


def test_several_adapters(run: Command, teapot: Path, lora: Path, tiny_model: Path) -> None:
    def drawn(*words: object) -> np.ndarray:
        status, _, err = run(*words, "a sks teapot", "--seeds", 1, "--steps", 2)
        assert (status, err) == (0, "")
        newest.append(max(Path("images").glob("a-sks-teapot*-1.png"), key=lambda path: path.stat().st_mtime_ns))
        with Image.open(newest[-1]) as image:
            return np.asarray(image).astype(int)

    newest: list[Path] = []
    alone = drawn(teapot)
    with_style = drawn(teapot, "--adapter", lora)
    said = read_metadata(newest[-1])
    assert [(a["name"], a["adapter"], a["strength"]) for a in said.adapters] == [("style", "lora", 1.0)]
    assert (drawn(teapot, "--adapter", f"{lora}:0") == alone).all()
    half = drawn(teapot, "--adapter", f"{lora}:0.5")
    assert np.abs(alone - with_style).max() > 1
    assert np.abs(half - alone).max() > 0
    assert np.abs(half - with_style).max() > 0
    assert read_metadata(newest[-1]).model_hash == said.model_hash  # of what is beneath the adapters
    twice = drawn(lora, "--adapter", f"{lora}:-1")  # the second takes back what the first does
    untouched = read_metadata(newest[-1])
    assert [a["strength"] for a in untouched.adapters] == [1.0, -1.0]
    plain = drawn(tiny_model, "--guidance", 3)
    assert np.abs(twice - plain).max() <= 1
    assert np.abs(drawn(lora) - plain).max() > 1
    assert len(set(newest)) == len(newest) == 7  # none was overwritten by one that was drawn otherwise


def test_like_says_where_the_model_is_another(run: Command, teapot: Path, lora: Path) -> None:
    run(teapot, "a sks teapot", "--seeds", 1, "--steps", 1)
    _, out, _ = run(teapot, "--like", "images/a-sks-teapot-1.png", "--output", "same")
    assert "Note" not in out
    _, out, _ = run(teapot, "--like", "images/a-sks-teapot-1.png", "--adapter", lora, "--output", "other")
    assert "Note: images/a-sks-teapot-1.png was generated with another model or other adapters" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{teapot}"], "Give a PROMPT, or --prompts FILE"),
        (["{teapot}", "a", "--prompts", "p.txt"], "not both"),
        (["{teapot}", "--prompts", "p.txt"], r"p\.txt cannot be read"),
        (["{teapot}", "a", "--seeds", "1", "1"], "names a seed twice"),
        (["{teapot}", "a", "--seeds", "1", "--count", "2"], "--seed and --count .*--seeds"),
        (["{teapot}", "--like", "no.png", "--seed", "0"], r"no\.png cannot be read"),
        (["{teapot}", "a", "--seeds", "1", "--seed", "0"], "--seed and --count .*--seeds"),
        (["{teapot}", "a", "--seeds", "-1"], "seed = -1 must be in"),
        (["{teapot}", "a", "--count", "0"], "count = 0: generate at least one"),
        (["{teapot}", "a", "--resolution", "36"], "resolution = 36 does not fit this model: use a multiple of 8"),
        (["{teapot}", "a", "--steps", "0"], r"steps = 0 must be in \[1, 999\]"),
        (["{teapot}", "a", "--steps", "1000"], r"steps = 1000 must be in \[1, 999\]"),
        (["{teapot}", "a", "--negative", "b", "--guidance", "1"], "set guidance above 1"),
        (["{teapot}", "a", "--adapter", "{teapot}"], "holds a full model, which cannot be loaded into another"),
        (["{teapot}", "a", "--adapter", "{lora}:much"], "write EXPORT:STRENGTH with a number, such as .*style:0.8"),
        (["{teapot}", "a", "--adapter", "{lora}:nan"], r"strength = nan must be in \[-10, 10\]"),
        (["{teapot}", "a", "--adapter", "{model}"], "is a base model: give a run folder or an export"),
        (["{teapot}", "--like", "no.png"], r"no\.png cannot be read as a PNG"),
        (["nowhere", "a"], "There is no run folder nowhere"),
        ([".", "a"], r"\. is not a run folder \(it has no settings\.toml\), an export"),
    ],
)
def test_what_was_asked_wrongly(
    run: Command, words: list[str], message: str, teapot: Path, lora: Path, tiny_model: Path, tmp_path: Path
) -> None:
    named = {"teapot": str(teapot), "lora": str(lora), "model": str(tiny_model)}
    status, _, err = run(*(word.format(**named) for word in words))
    assert status == 2, err
    assert err.startswith("lookforward: ")
    assert re.search(message, err), err
    assert not list(tmp_path.iterdir())
