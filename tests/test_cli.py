"""The command line: the main job from photos to scores, and what it says where something is wrong."""

import errno
import json
import os
import re
import shutil
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

import lookforward
from conftest import save_image
from jobs import SETTINGS, Command, as_options, exported, logged, tree
from lookforward.api import personalize
from lookforward.benchmark.methods import grid_methods
from lookforward.config.reading import flatten
from lookforward.errors import LookforwardError


@pytest.fixture
def run(command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command in an empty folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return command_line


@pytest.fixture
def command(photos: Path, tiny_model: Path) -> list[str]:
    """A whole training in some words."""
    return ["train", str(photos), "--class-noun", "teapot", "--model", str(tiny_model), *as_options(SETTINGS)]


def without(command: list[str], option: str) -> list[str]:
    """A command without one of its options."""
    i = command.index(option)
    return command[:i] + command[i + 2 :]


@pytest.fixture(scope="module")
def finished(tiny_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKFORWARD_CACHE", str(folder.parent / "cache"))
        personalize(photos, "teapot", output=folder, settings={"model.name": str(tiny_model), **SETTINGS})
    return folder


@pytest.fixture(scope="module")
def encoders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny DINO and a tiny CLIP."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    image = {"image_size": 32, "patch_size": 8, "initializer_range": 0.2}
    ViTModel(ViTConfig(**sizes, **image), add_pooling_layer=False).save_pretrained(folder / "dino")
    shutil.copytree(tiny_model / "tokenizer", folder / "clip")
    text = json.loads((tiny_model / "text_encoder" / "config.json").read_text())
    CLIPModel(CLIPConfig(text_config=text, vision_config={**sizes, **image})).save_pretrained(folder / "clip")
    return ["--dino", str(folder / "dino"), "--clip", str(folder / "clip")]


def assert_refused(result: tuple[int, str, str], *facts: object) -> None:
    """One message on stderr that names every fact, and status 2."""
    status, _, err = result
    assert status == 2, err
    assert [fact for fact in facts if str(fact) not in err] == [], err
    assert err.startswith("lookforward: ")
    assert "Traceback" not in err
    assert "\n" not in err.rstrip("\n").replace("\n  ", " ")  # one message; a list in it is indented


def test_train_generate_score(run: Command, command: list[str], encoders: list[str], photos: Path) -> None:
    status, out, err = run(*command)
    folder = Path("runs/teapot-0-look-forward")
    assert (status, err) == (0, "")
    assert out.startswith(f"Training on 5 photos into {folder} …\n")
    assert out.count("s/step") == 6
    assert out.endswith(
        f'Generate images with it: lookforward generate {folder} "a photo of sks teapot on the beach"\n'
    )

    again, out, err = run(*command)
    assert (again, err) == (0, "")
    assert out.startswith(f"{folder} is already finished. Generate images with it: lookforward generate")
    status, out, err = run(*command, "--adapter", "custom-diffusion", "--dry-run")  # a folder of its own
    assert (status, err) == (0, "")
    assert out.endswith("Would train 6 steps on 5 photos into runs/teapot-0-look-forward-custom-diffusion.\n")

    status, out, err = run("generate", folder, "a photo of sks teapot on the beach", "--count", 3, "--seed", 5)
    assert (status, err) == (0, "")
    name = "a-photo-of-sks-teapot-on-the-beach"
    assert out == f"3 images and {name}-sheet.png in {folder / 'images'}\n"
    drawn = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    assert drawn.keys() == {f"{name}-{end}.png" for end in ("5", "6", "7", "sheet")}
    run("generate", folder, "a photo of sks teapot on the beach", "--count", 3, "--seed", 5, "--output", "other")
    assert drawn == tree(Path("other"))
    with Image.open(folder / "images" / f"{name}-5.png") as image:
        assert image.size == (32, 32)
    status, out, _ = run("generate", folder, "a teapot", "--count", 1, "--steps", 1, "--guidance", 1)
    assert out.startswith("Note: the prompt does not hold 'sks'")

    Path("prompts.txt").write_text("a photo of a {} on the moon\na red {}\n")
    status, out, err = run("score", folder, "--prompts", "prompts.txt", *encoders)
    assert (status, err) == (0, "")
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["images"] == 4
    assert len(scores["prompts"]) == 2
    assert scores["means"].keys() >= {"DINO", "CLIP-I", "CLIP-T"}
    for name, mean in scores["means"].items():
        assert re.search(rf"^{name} +{mean:.4f}$", out, re.MULTILINE)


def test_score_with_another_encoder_and_the_identifier(
    run: Command, encoders: list[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    Path("prompts.txt").write_text("a {}\n")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(tmp_path / "dinov2")
    texts = []
    for further in ([], ["--dinov2", tmp_path / "dinov2", "--identifier-in-clip-text"]):
        status, out, err = run("score", folder, "--prompts", "prompts.txt", *encoders, *further)
        assert (status, err) == (0, "")
        place = folder / ("scores-2.json" if further else "scores.json")  # the first ones are kept
        assert str(place) in out
        record = json.loads(place.read_text())
        assert record["identifier_in_clip_text"] is bool(further)
        assert ("DINOv2" in record["means"]) is ("DINOv2" in out) is bool(further)
        dinov2 = {"dinov2": str(tmp_path / "dinov2")} if further else {}
        assert record["encoders"] == {"dino": str(encoders[1]), "clip": str(encoders[3]), **dinov2}
        assert (record["optimised"], "†" in out) == ([], False)
        texts.append(record["means"]["CLIP-T"])
    assert texts[0] != texts[1]
    assert run("score", folder, "--prompts", "prompts.txt", *encoders)[0] == 0  # as the first time
    assert sorted(path.name for path in folder.glob("scores*")) == ["scores-2.json", "scores.json"]
    manifest = folder / "settings.toml"
    manifest.write_text(
        re.sub(r"^reward = .*$", f'reward = "embedding:{encoders[1]}"', manifest.read_text(), flags=re.M)
    )
    status, out, err = run("score", folder, "--prompts", "prompts.txt", *encoders)
    assert (status, err) == (0, "")
    assert json.loads((folder / "scores-3.json").read_text())["optimised"] == ["DINO"]
    assert re.search(r"^DINO +\S+ †$", out, re.MULTILINE)
    assert "the method was trained on this score" in out


def test_score_wants_the_photos_that_were_learned_from(
    run: Command, encoders: list[str], finished: Path, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.copytree(photos, tmp_path / "others")
    save_image(tmp_path / "others" / "00.png", seed=99)
    config = folder / "settings.toml"
    config.write_text(re.sub(r"^photos = .*$", f'photos = "{tmp_path / "others"}"', config.read_text(), flags=re.M))
    assert_refused(run("score", folder, *encoders), tmp_path / "others", "run")
    shutil.copytree(photos, tmp_path / "others", dirs_exist_ok=True)
    (tmp_path / "others" / "00.txt").write_text("a photo of a {}")  # captions are not what is scored
    Path("prompts.txt").write_text("a {}\n")
    assert run("score", folder, "--prompts", "prompts.txt", "--images", 1, *encoders)[0] == 0


def test_score_of_a_run_from_a_list_of_photos(
    run: Command, encoders: list[str], photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    files = sorted(photos.glob("*.png"))[:3]
    personalize(files, "teapot", output=tmp_path / "list", settings={"model.name": str(tiny_model), **SETTINGS})
    Path("prompts.txt").write_text("a {}\n")
    status, _, err = run("score", tmp_path / "list", "--images", 1, "--prompts", "prompts.txt", *encoders)
    assert (status, err) == (0, "")
    shutil.move(tmp_path / "list", tmp_path / "[moved] :smile:")
    status, out, _ = run("generate", tmp_path / "[moved] :smile:", "a sks teapot", "--count", 1)
    assert (status, out) == (0, f"1 image and a-sks-teapot-sheet.png in {tmp_path / '[moved] :smile:' / 'images'}\n")


def test_too_little_memory_on_an_accelerator_has_a_remedy(
    run: Command, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(self: Any, result: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr("lookforward.cli.progress.TrainingProgress.show", short)
    status, _, err = run(*command, "--output", "run")
    assert status == 4
    assert "Traceback" not in err
    assert [fact for fact in ("--model.gradient-checkpointing", "CUDA out of memory") if fact not in err] == []

    def fail_on_the_cpu(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr("lookforward.cli.progress.TrainingProgress.show", fail_on_the_cpu)
    status, _, err = run(*command, "--output", "run")
    assert status == 4
    assert "can't allocate memory" in err


def test_an_interrupted_training_goes_on(
    run: Command, command: list[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Any, result: Any) -> None:
        if result.step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lookforward.cli.progress.TrainingProgress.show", interrupt)
        status, _, err = run(*command, "--output", "run")
    assert status == 130
    assert err == "\nlookforward: stopped. Run the same command again to continue.\n"
    assert_refused(run("generate", "run", "a teapot"), "run", "finished")
    assert_refused(run("score", "run"), "run", "finished")
    status, out, err = run(*command, "--output", "run")
    assert (status, err) == (0, "")
    assert "Continuing after step 4.\nstep 5/6" in out
    assert exported(Path("run")) == exported(finished)
    assert logged(Path("run")) == logged(finished)


def test_a_dry_run_writes_nothing(
    run: Command, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
    before = tree(tmp_path)
    status, out, err = run(*command, "--dry-run", "--identifier", "zwxq", "--seed", 3)
    assert (status, err) == (0, "")
    assert tree(tmp_path) == before
    for line in ('identifier = "zwxq"', "seed = 3", "learning_rate = 0.001", "discount = 0.9986"):
        assert f"\n{line}\n" in out
    assert "# Note: identifier 'zwxq' is" in out
    assert out.endswith("# Would train 6 steps on 5 photos into runs/teapot-0-look-forward.\n")


def test_a_dry_run_is_a_recipe_with_its_notes_as_comments(run: Command, command: list[str]) -> None:
    words = [*command, "--dry-run", "--fit", "8", "--critic.weight", "2", "--recipe"]
    status, out, err = run(*words, "dreambooth")
    assert (status, err) == (0, "")
    Path("mine.toml").write_text(out)
    _, again, _ = run(*command[:4], "--recipe", "mine.toml", "--dry-run")
    assert {**shown(again), "run.recipe": "dreambooth"} == shown(out)
    named = ("00.png, 01.png", "Note: critic.weight = 2.0 changes nothing", "in training", "To fit 8 GB", "Fits 8 GB")
    assert sum(any(line.startswith("#") and fact in line for line in out.splitlines()) for fact in named) == 4


def test_each_photo_is_named_with_its_prompt_and_mask(
    run: Command, command: list[str], photos: Path, tmp_path: Path
) -> None:
    dog = tmp_path / "dog"
    shutil.copytree(photos, dog)
    (dog / "00.txt").write_text("in the snow")
    (dog / "01.TXT").write_text("a {} asleep")
    Image.open(dog / "02.png").convert("L").save(dog / "02.mask.png")
    (dog / "clip.mov").write_text("")
    status, out, err = run("train", dog, *command[2:], "--dry-run")
    assert (status, err) == (0, "")
    for line in (
        f"{dog}/ has 5 photos, 2 captions, 1 mask; not used: clip.mov.",
        "  00.png: 'sks teapot, in the snow'",
        "  01.png: 'a sks teapot asleep'",
        "  02.png: 'a photo of sks teapot', mask 02.mask.png",
        "Training prompt: 'a photo of sks teapot', and 2 captions in its place. Class prompt: 'a photo of teapot'.",
    ):
        assert f"# {line}\n" in out


def test_a_dry_run_finds_what_is_wrong(run: Command, command: list[str], finished: Path) -> None:
    assert_refused(
        run(*without(command, "--data.resolution"), "--dry-run", "--data.resolution", "36"), "resolution = 36"
    )
    assert_refused(run(*command, "--dry-run", "--output", finished, "--seed", 1), finished, "run.seed was 0, now 1")


def test_a_word_for_the_whole_subject_is_scored_without_the_class_noun(
    run: Command, command: list[str], encoders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def draw(_: object, prompts: list[str], seeds: list[int], **__: object) -> np.ndarray:
        asked.extend(prompts)
        return np.zeros((len(prompts), 32, 32, 3), np.uint8)

    command = [*command[:6], *as_options({**SETTINGS, "run.steps": 1, "evaluation.sample_every": 0})]
    status, out, err = run(*command, "--adapter", "textual-inversion", "--output", "a word")
    assert (status, err) == (0, "")
    assert "lookforward generate 'a word' \"a photo of <sks> on the beach\"" in out  # to be copied
    monkeypatch.setattr("lookforward.models.sampling.draw_images", draw)
    Path("prompts.txt").write_text("a photo of a {} on the moon\n")
    status, _, err = run("score", "a word", "--prompts", "prompts.txt", "--images", 1, *encoders)
    assert (status, err) == (0, "")
    assert asked == ["a photo of a <sks> on the moon"]


def shown(out: str) -> dict[str, Any]:
    """The settings that a dry run shows."""
    return flatten(tomllib.loads(out))


def test_settings_go_over_the_recipe(run: Command, command: list[str]) -> None:
    mine = {"critic.name": "none", "subject.identifier": "zwx", "run.seed": 5, "run.steps": 9, "data.allow_few": True}
    Path("mine.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in mine.items()))
    words = [*command[:6], "--recipe", "mine.toml", "--dry-run"]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert mine.items() <= shown(out).items()
    given = {"run.batch_size": 3, "objective.discount": 0.5, "subject.identifier": "a b"}
    status, out, _ = run(*words, "--steps", 8, *as_options(given), "--data.flip", "--data.no-captions")
    given |= {"run.steps": 8, "data.flip": True, "data.captions": False, "run.seed": 5}
    assert given.items() <= shown(out).items()
    run(*words[:-1], "--output", "out", "--model.device", "abacus")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--recipe", "paper"], "'paper' best dreambooth look-forward released"),
        (["--recipe", "paper.toml"], "paper.toml"),
        (["--recipe", "."], "'.'"),
        (["--critic.weight", "nan"], "critic.weight nan"),
        (["--critic.weight", "inf"], "critic.weight inf"),
        (["--objective.discount", "1.1"], "objective.discount 1.1 (0, 1]"),
        (["--batch-size", "0"], "run.batch_size = 0 must be in [1,"),
        (["--data.captions", "false"], "data.captions --data.no-captions"),
        (["--seed", "-1"], "run.seed -1 [0, 2^63)"),
        (["--class-noun", ""], "class noun"),
        (["--class-noun", " \u200b "], "class noun"),
        (["--identifier", ""], "identifier sks"),
        (["--identifier", "<|endoftext|>"], "<|endoftext|> sks"),
        (["--model.device", "abacus"], "abacus cpu auto"),
        (["--model", "nowhere/at/all"], "nowhere/at/all"),
        (["--model", "."], "model_index.json"),
        (["--output", "/dev/null"], "/dev/null --output"),
        (["--output", "/dev/null/run"], "/dev/null/run --output"),
    ],
)
def test_what_was_asked_wrongly(run: Command, command: list[str], tmp_path: Path, words: list[str], facts: str) -> None:
    before = tree(tmp_path)
    for option in {word for word in words if word in command}:
        command = without(command, option)
    assert_refused(run(*command, *words), *facts.split())
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "PATH"),
        (["train", "x", "--class-noun", "dog", "--steps", "many"], "--steps"),
        (["train", "x", "--class-noun", "dog", "--run.steps", "1.5"], "--steps"),
        (["train", "x", "--class-noun", "dog", "--critic.name", "big"], "state-action"),
        (["train", "x", "--class-noun", "dog", "--critic.wieght", "3"], "--critic.weight"),
        (["train", "x", "--class-noun", "dog", "--precision", "fp16"], "fp16"),
        (["train", "x", "--class-noun", "dog", "--stpes", "3"], "--stpes"),
        (["paint"], "paint"),
        (["generate", "run"], "PROMPT|STR"),
    ],
)
def test_what_cannot_be_parsed(run: Command, words: list[str], message: str) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert re.search(message, err), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], "train generate score export merge compare ablate demo toybox"),
        (["train"], "PHOTOS? --class-noun --model --recipe --reward --steps --identifier --seed --output --resolution "
         "--precision --dry-run --critic.weight --data.allow-few --batch-size --learning-rate --device"),
        (["generate"], "--prompts --count --seed --seeds --negative --scheduler --steps --guidance --adapter --output"),
        (["score"], "--prompts --images --seed --dino --clip"),
        (["compare"], "--subjects --recipes --seeds --images --prompts --output --critic.weight --steps"),
        (["ablate"], "--values --recipe --subjects --seeds --steps --images --output --critic.weight"),
        (["demo"], "--output --subject"),
        (["toybox"], "photos sheet samples check curves draw train"),
        (["toybox", "photos"], "--subject --output --count"),
        (["toybox", "train"], "--stage --folder --minutes --seed --device"),
        (["toybox", "draw"], "--count --folder --seed --workers"),
        (["toybox", "check"], "--images --seed"),
        (["toybox", "sheet"], "--output"),
    ],
)  # fmt: skip
def test_every_command_has_help(run: Command, command: list[str], words: str) -> None:
    status, out, err = run(*command, "--help")
    assert (status, err) == (0, "")
    for word in words.split():
        assert re.search(word, out) or word == "PHOTOS?", word
    assert "usage: lookforward" in out


def test_the_version_is_printed(run: Command) -> None:
    assert run("--version") == (0, f"lookforward {lookforward.__version__}\n", "")
    assert "--version" in run("--help")[1]


def test_photos_that_cannot_be_used(run: Command, command: list[str], photos: Path, tmp_path: Path) -> None:
    def use(*names: str, text: str | None = None) -> list[str]:
        folder = tmp_path / f"photos-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for i, name in enumerate(names):
            save_image(folder / name, seed=i)
        if text is not None:
            (folder / text).write_text("this is a caption\n")
        return ["train", str(folder), *command[2:]]

    assert_refused(run(*use()), "photos-1", "no photos")
    assert_refused(run(*use(text="notes.txt")), "no photos")
    assert_refused(run(*use("a.png")), "1 photo", "--data.allow-few")
    assert_refused(run(*use("a.png", "b.png", "c.png", text="d.jpg")), "d.jpg")
    assert_refused(run("train", "nowhere", *command[2:]), "nowhere")
    assert not Path("runs").exists()
    status, out, err = run(*use("a.png"), "--data.allow-few", "--output", "one")
    assert (status, err) == (0, "")
    assert "Note: " in out


def test_run_folders_that_cannot_be_read(run: Command, command: list[str], tmp_path: Path, finished: Path) -> None:
    for words in (["generate", "{}", "a teapot"], ["score", "{}"]):

        def use(folder: str, words: list[str] = words) -> tuple[int, str, str]:
            return run(*(word.replace("{}", folder) for word in words))

        assert_refused(use("nowhere"), "nowhere")
        assert_refused(use("."), "settings.toml")
        folder = tmp_path / f"copy-{words[0]}"
        shutil.copytree(finished, folder)
        (folder / "export" / "unet" / "config.json").write_text("{")
        assert_refused(use(str(folder)), folder, "export")
        (folder / "settings.toml").write_text('photos = "ph')
        assert_refused(use(str(folder)), "settings.toml", "TOML")
        (folder / "settings.toml").write_bytes(b"\xff\xfe")
        assert_refused(use(str(folder)), "settings.toml", "TOML")
        (folder / "settings.toml").unlink()
        (folder / "settings.toml").mkdir()
        assert_refused(use(str(folder)), "settings.toml")
        assert_refused(run(*command, "--output", folder), folder, "--output")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_a_run_folder_without_permission(run: Command, command: list[str], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    try:
        for path in (locked, locked / "run"):
            assert_refused(run(*command, "--output", path), "locked")
            assert_refused(run("generate", path, "a teapot"), "locked")
    finally:
        locked.chmod(0o700)


def test_scores_that_cannot_be_taken(run: Command, finished: Path, encoders: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    assert_refused(run("score", folder, "--prompts", "no.txt", *encoders), "no.txt")
    assert_refused(run("score", folder, "--images", 0, *encoders), "images")
    assert_refused(run("score", folder, "--dino", "no/dino/here", *encoders[2:]), "no/dino/here")
    config = (folder / "settings.toml").read_text()
    (folder / "settings.toml").write_text(re.sub('photos = ".*"', 'photos = "gone"', config))
    assert_refused(run("score", folder, *encoders), "gone")
    assert not (folder / "scores.json").exists()


def damage_model(folder: Path, damage: str) -> None:
    kind, _, part = damage.partition(" ")
    weights = next((folder / part).glob("*.safetensors"), folder)
    match kind:
        case "without":
            shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()
        case "weightless":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "empty":
            weights.write_bytes(b"")
        case "gap":
            tensors = load_file(weights)
            del tensors[sorted(tensors)[-1]]
            save_file(tensors, weights, {"format": "pt"})
        case "garbled":
            (folder / part).write_text("{")


PARTS = ("unet", "vae", "text_encoder")


@pytest.mark.parametrize(
    "damage",
    [
        *(f"without {part}" for part in (*PARTS, "tokenizer", "scheduler", "model_index.json")),
        *(f"{kind} {part}" for part in PARTS for kind in ("weightless", "truncated", "empty", "gap")),
        *(f"without {part}/config.json" for part in PARTS),
        *(f"{kind} tokenizer/tokenizer.json" for kind in ("without", "garbled")),
        "without scheduler/scheduler_config.json",
        "garbled model_index.json",
        "garbled unet/config.json",
    ],
)
def test_a_model_folder_with_a_missing_part(
    run: Command, command: list[str], tiny_model: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage_model(folder, damage)
    before = tree(folder)
    result = run(*without(command, "--model"), "--model", folder)
    assert_refused(result, folder)
    assert tree(folder) == before
    assert not Path("runs").exists()


class NoNetwork:
    """A network that swallows everything: each attempt to connect lasts until it is given up."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.waited = 0.0
        patch.setattr(socket, "create_connection", self.connect)
        patch.setattr(socket.socket, "connect", self.connect)

    def connect(self, address: object, timeout: float | None = None, *_: Any, **__: Any) -> None:
        self.waited += 3600.0 if timeout is None else timeout
        raise TimeoutError("timed out")


def test_a_hub_id_without_a_network(
    run: Command,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: Path,
    encoders: list[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    network = NoNetwork(monkeypatch)
    said = ("nobody/nothing-here", "hf download nobody/nothing-here")
    assert_refused(run(*without(command, "--model"), "--model", "nobody/nothing-here"), *said)
    assert network.waited <= 10
    assert_refused(run("score", finished, "--clip", "nobody/nothing-here", *encoders[:2]), *said)
    assert network.waited <= 20
    assert not Path("runs").exists()


def test_a_hub_id_that_was_downloaded_needs_no_network(
    run: Command, command: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    repository = hub / "models--somebody--tiny"
    shutil.copytree(tiny_model, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    network = NoNetwork(monkeypatch)
    status, _, err = run(*without(command, "--model"), "--model", "somebody/tiny", "--output", "run")
    assert (status, err) == (0, "")
    assert network.waited <= 10
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert exported(Path("run"))[weights] == exported(finished)[weights]


def full_disk(patch: pytest.MonkeyPatch, place: str) -> None:
    """No more room, noticed when `place` is written, half of it being there already."""
    error = OSError(errno.ENOSPC, "No space left on device")
    save, opened = Image.Image.save, Path.open

    def save_half(self: Image.Image, target: Any, *rest: Any, **options: Any) -> None:
        if place in str(target):
            Path(target).write_bytes(b"\x89PNG")
            raise error
        save(self, target, *rest, **options)

    def open_full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if self.name != place or "r" in mode or (mode == "a" and self.is_file() and len(logged(self.parent)) < 3):
            return opened(self, mode, *rest, **options)
        with opened(self, mode, encoding="utf-8") as file:
            file.write('{"step": 4, "lo')
        raise error

    def fail(*_: Any, **__: Any) -> None:
        raise error

    match place:
        case "class-images" | "samples":
            patch.setattr(Image.Image, "save", save_half)
        case "settings.toml" | "metrics.jsonl":
            patch.setattr(Path, "open", open_full if place == "metrics.jsonl" else open_partial(place, error))
        case "checkpoints":
            patch.setattr("lookforward.runs.checkpoint.save_file", fail)
        case "tokenizer":
            patch.setattr("transformers.CLIPTokenizer.save_pretrained", raise_plain)
        case "unet":
            patch.setattr("diffusers.UNet2DConditionModel.save_pretrained", fail)


def open_partial(name: str, error: OSError) -> Callable[..., Any]:
    opened = Path.open

    def open_full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if self.name == f".partial-{name}":
            raise error
        return opened(self, mode, *rest, **options)

    return open_full


def raise_plain(*_: Any, **__: Any) -> None:
    raise Exception("No space left on device (os error 28)")  # as tokenizers does


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ("class-images", "cache/class-images/"),
        ("settings.toml", "run/settings.toml"),
        ("metrics.jsonl", "run"),
        ("checkpoints", "run/checkpoints"),
        ("samples", "run/samples"),
        ("unet", "run/export"),
        ("tokenizer", "run/export"),
    ],
)
def test_a_full_disk_loses_nothing(
    run: Command, command: list[str], tmp_path: Path, finished: Path, place: str, where: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKFORWARD_CACHE", str(tmp_path / "cache"))
        with pytest.MonkeyPatch.context() as full:
            full_disk(full, place)
            for _ in range(2):
                assert_refused(run(*command, "--output", "run"), where, "disk is full")
                assert not (Path("run") / "export").exists()
        status, _, err = run(*command, "--output", "run")
    assert (status, err) == (0, "")
    assert exported(Path("run")) == exported(finished)
    assert logged(Path("run")) == logged(finished)
    assert tree(Path("run/samples")) == tree(finished / "samples")
    assert not list(Path("run").rglob(".partial*"))


def test_a_full_disk_after_training(
    run: Command, finished: Path, encoders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "open", open_partial("scores.json", error))
    Path("prompts.txt").write_text("a {}\n")
    assert_refused(run("score", folder, "--prompts", "prompts.txt", *encoders), "scores.json", "the disk")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "save", fail)
    assert_refused(run("generate", folder, "a sks teapot", "--count", 1), "images", "the disk is full")


def test_a_bug_keeps_its_traceback(run: Command, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the user can do something about is reported in one sentence."""

    def refuse(*_: Any) -> None:
        raise LookforwardError("reported", code="test")

    monkeypatch.setattr("lookforward.assembly.training.load_newest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*command)
    monkeypatch.setattr("lookforward.assembly.training.load_newest", refuse)
    assert_refused(run(*command), "reported")


def test_recipes_join_a_comparison_later_without_another_untouched_model() -> None:
    first, later = (
        grid_methods(("dreambooth",), ("full",), {"run.seed": 1}),
        grid_methods(("best",), ("full", "lora"), {"run.seed": 1}),
    )
    assert first["untouched"] == later["untouched"]
    assert list(later) == ["untouched", "best", "best@lora"]
    assert later["best@lora"] == ("best", {"run.seed": 1, "adapter.name": "lora"})
