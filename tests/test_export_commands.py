"""`export` and `merge`: what they write is what the adapter does, and they refuse what cannot be."""

import contextlib
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from exports import make_export, make_model
from jobs import Command, tree
from lookforward import load_personalized
from lookforward.adapters import ADAPTERS
from lookforward.adapters.comfyui import about_the_base, to_comfyui
from lookforward.adapters.textual_inversion import file_name
from lookforward.config.reading import structure
from lookforward.config.settings import Settings
from lookforward.exports.card import CARD
from lookforward.exports.load import load_export, manifest_of, read_manifest
from lookforward.models.families.sd import SD
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images
from lookforward.runs.folder import MANIFEST, Run, open_run
from lookforward.whole import write_sums

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def run(command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return command_line


@pytest.fixture(scope="module")
def exports(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of each adapter, on the tiny model."""
    folder = tmp_path_factory.mktemp("exports")
    words: dict[str, Any] = {"subject.identifier": "<new>", "adapter.initial_word": "teapot"}
    return {
        "full": make_export(folder / "whole", tiny_model, "full", size=0.02),
        "lora": make_export(folder / "lora", tiny_model, "lora"),
        "dora": make_export(folder / "dora", tiny_model, "dora"),
        "t-lora": make_export(folder / "t-lora", tiny_model, "t-lora"),
        "loha": make_export(folder / "loha", tiny_model, "loha"),
        "lokr": make_export(folder / "lokr", tiny_model, "lokr"),
        "oft": make_export(folder / "oft", tiny_model, "oft", **{"adapter.oft_block_size": 4}),
        "pivotal": make_export(folder / "pivotal", tiny_model, "pivotal", **words),
        "custom-diffusion": make_export(folder / "custom", tiny_model, "custom-diffusion", **words),
        "textual-inversion": make_export(
            folder / "word", tiny_model, "textual-inversion", **{"adapter.vectors": 2}, **words
        ),
        "p-plus": make_export(folder / "p-plus", tiny_model, "p-plus", **words),
        "neti": make_export(folder / "neti", tiny_model, "neti", **words),
        "e4t": make_export(folder / "e4t", tiny_model, "e4t", **words),
    }


def drawn(pipeline: Any, prompt: str) -> np.ndarray:
    return draw_images(pipeline, [prompt], [3], steps=2, guidance=3.0)[0].astype(int)


def prompt_for(folder: Path) -> str:
    return f"a photo of {read_manifest(folder)['identifier']} in the snow"


def test_every_adapter_has_its_formats() -> None:
    formats = {spec.name: spec.format_names for spec in ADAPTERS}
    assert formats == {
        "full": ("diffusers", "merged", "checkpoint"),
        "lora": ("diffusers", "comfyui", "kohya", "merged", "checkpoint"),
        "dora": ("diffusers", "comfyui", "kohya", "merged", "checkpoint"),
        "loha": ("diffusers", "comfyui", "kohya", "merged", "checkpoint"),
        "lokr": ("diffusers", "comfyui", "kohya", "merged", "checkpoint"),
        "oft": ("diffusers", "merged", "checkpoint"),
        "pivotal": ("diffusers", "comfyui", "kohya", "merged", "checkpoint"),
        "custom-diffusion": ("diffusers", "merged", "checkpoint"),
        "textual-inversion": ("diffusers", "a1111", "merged", "checkpoint"),
        "p-plus": ("diffusers",),
        "neti": ("diffusers",),
        "elite": ("diffusers",),
        "e4t": ("diffusers", "comfyui", "kohya", "merged", "checkpoint"),
        "t-lora": ("diffusers",),
    }


@pytest.mark.parametrize("adapter", [spec.name for spec in ADAPTERS if "merged" in spec.format_names])
def test_a_merged_model_needs_nothing_beside_it(
    adapter: str, run: Command, exports: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    export = exports[adapter]
    status, out, err = run("merge", export, "--output", "merged")
    assert (status, err) == (0, "")
    assert out == "Merged into merged. Load it with StableDiffusionPipeline.from_pretrained('merged').\n"
    prompt = prompt_for(export)
    ours = drawn(load_export(export, "cpu"), prompt)
    plain = StableDiffusionPipeline.from_pretrained(tmp_path / "merged", safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    assert not any("lora" in name for name, _ in plain.unet.named_parameters())
    assert np.abs(drawn(plain, prompt) - ours).max() <= 1
    before = drawn(build_pipeline(str(tiny_model), "cpu"), prompt)
    assert np.abs(ours - before).max() > 3
    assert np.abs(drawn(load_personalized("merged").pipeline, prompt) - ours).max() <= 1
    card = (tmp_path / "merged" / CARD).read_text()
    assert "Merged in" in card
    assert read_manifest(Path("merged"))["merged"][0]["adapter"] == adapter


@pytest.mark.parametrize("adapter", [spec.name for spec in ADAPTERS if "merged" in spec.format_names])
def test_a_strength_lies_between_nothing_and_all(
    adapter: str, run: Command, exports: dict[str, Path], tiny_model: Path
) -> None:
    export = exports[adapter]
    assert run("merge", export, "--strength", 0, "--output", "none")[0] == 0
    assert run("merge", f"{export}:0.5", "--output", "half")[0] == 0
    assert run("export", export, "--format", "merged", "--strength", 0.5, "--output", "half too")[0] == 0
    assert tree(Path("half")) == tree(Path("half too"))
    before, none, half = (load_file(Path(f) / WEIGHTS) for f in (tiny_model, "none", "half"))
    whole = load_file(exports["full"] / WEIGHTS)
    for name, weight in before.items():
        torch.testing.assert_close(none[name], weight, rtol=0, atol=1e-6)
        if adapter == "full":
            torch.testing.assert_close(half[name], (weight + whole[name]) / 2, rtol=0, atol=1e-6)
    if adapter != "textual-inversion":  # whose word is not in the UNet
        assert any((half[name] - weight).abs().max() > 1e-3 for name, weight in before.items())


def test_several_are_merged_at_their_own_strengths(run: Command, exports: dict[str, Path], tiny_model: Path) -> None:
    words = (exports["full"], f"{exports['lora']}:0.5", exports["textual-inversion"])
    status, _, err = run("merge", *words, "--output", "merged")
    assert (status, err) == (0, "")
    expected = [(a["name"], a["strength"]) for a in read_manifest(Path("merged"))["merged"]]
    assert expected == [("whole", 1.0), ("lora", 0.5), ("word", 1.0)]
    status, _, err = run(
        "generate",
        exports["full"],
        "a <new> teapot",
        "--adapter",
        words[1],
        "--adapter",
        words[2],
        "--seeds",
        3,
        "--steps",
        2,
    )
    assert (status, err) == (0, "")
    with Image.open("images/a-new-teapot-3.png") as image:
        beside = np.asarray(image).astype(int)
    assert np.abs(drawn(load_export(Path("merged"), "cpu"), "a <new> teapot") - beside).max() <= 1


def test_a_note_says_where_the_base_is_another(run: Command, exports: dict[str, Path], tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", 5)
    status, out, err = run("merge", other, exports["lora"], "--output", "merged")
    assert (status, err) == (0, "")
    assert out.startswith("Note: lora was trained on ")
    assert f"not on {other}: it may draw something else here.\n" in out
    none = load_file(other / WEIGHTS)
    merged = load_file(tmp_path / "merged" / WEIGHTS)
    assert none.keys() == merged.keys()


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_kohya_is_one_file(adapter: str, run: Command, exports: dict[str, Path], tiny_model: Path) -> None:
    status, out, err = run("export", exports[adapter], "--format", "kohya", "--output", "kohya")
    assert (status, out, err) == (0, f"kohya: README.md, {adapter}.safetensors\n", "")  # as the run was called
    keys = load_file(f"kohya/{adapter}.safetensors").keys()
    card = Path("kohya/README.md").read_text()
    assert f"put `{adapter}.safetensors` into `models/loras`" in card
    assert "must have agreed to this use" in card
    assert "StableDiffusionPipeline" not in card
    with safe_open(f"kohya/{adapter}.safetensors", framework="np") as file:
        said = file.metadata()
    assert said["modelspec.trigger_phrase"] == "sks teapot"
    assert "ss_base_model_version" not in said  # of the tiny model, which is no Stable Diffusion that A1111 knows
    assert keys
    assert all(key.startswith(("lora_unet_", "lora_te_")) for key in keys)
    if adapter == "lora":  # diffusers' converter knows no magnitudes
        plain = build_pipeline(str(tiny_model), "cpu")
        plain.load_lora_weights("kohya", weight_name=f"{adapter}.safetensors")
        prompt = prompt_for(exports[adapter])
        assert np.abs(drawn(plain, prompt) - drawn(load_export(exports[adapter], "cpu"), prompt)).max() <= 1


def test_the_layout_is_that_of_the_family(run: Command, exports: dict[str, Path], tmp_path: Path) -> None:
    for layout in ("comfyui", "kohya"):
        assert run("export", exports["lora"], "--format", layout, "--output", layout)[0] == 0
    files = [load_file(f"{layout}/lora.safetensors") for layout in ("comfyui", "kohya")]
    assert files[0].keys() == files[1].keys()  # of Stable Diffusion, ComfyUI reads kohya's
    assert "with the node LoraLoader" in Path("comfyui/README.md").read_text()
    other = shutil.copytree(exports["lora"], tmp_path / "other")
    manifest = json.loads((other / MANIFEST).read_text())
    for name, said in (("flux", "FLUX.1"), ("deep", "no family 'deep'")):
        (other / MANIFEST).write_text(json.dumps(manifest | {"family": name}))
        write_sums(other)
        status, _, err = run("export", other, "--format", "comfyui", "--output", "out")
        assert (status, said in err) == (2, True), err
        assert not Path("out").exists()


@pytest.mark.parametrize(
    ("width", "version", "two"),
    [(768, "sd_v1", "False"), (1024, "sd_v2", "True"), (2048, "sdxl_base_v1-0", "False"), (16, "", "")],
)
def test_a_lora_tells_of_which_stable_diffusion_it_is(width: int, version: str, two: str) -> None:
    layers = {
        f"unet.mid_block.attentions.0.transformer_blocks.0.{layer}.lora.down.weight": torch.zeros(4, width)
        for layer in ("attn2.to_k", "attn2.to_v")
    }
    said = about_the_base(to_comfyui(layers, {}, SD))
    assert said == ({"ss_base_model_version": version, "ss_v2": two} if version else {})


def test_the_bundled_model_is_no_folder_whatever_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toybox").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "model_is_folder" not in manifest_of(Settings())


def test_a_base_model_in_a_folder_is_not_looked_for_on_a_hub(
    run: Command, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "models" / "sd14")
    make_export(tmp_path / "mine", Path("models/sd14"), "lora")
    assert run("generate", "mine", "a sks teapot", "--count", 1, "--steps", 1)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for words in (["generate", "../mine", "a sks teapot"], ["merge", "../mine", "--output", "merged"]):
        status, _, err = run(*words)
        assert status == 2
        assert "trained on the folder models/sd14, which does not exist from here" in err
    beside = ["generate", tiny_model, "a sks teapot", "--adapter", "../mine", "--count", 1, "--steps", 1]
    assert run(*beside)[0] == 0  # as the message says


def test_an_adapter_is_not_drawn_on_other_weights_of_its_base(run: Command, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", 1)
    make_export(tmp_path / "mine", base, "lora")
    shutil.rmtree(base)
    make_model(base, 2)
    for words in (["generate", "mine", "a sks teapot"], ["merge", "mine", "--output", "merged"]):
        status, _, err = run(*words)
        assert status == 2
        assert f"The weights of {base} have changed since this was trained on it" in err
    beside = ["generate", base, "a sks teapot", "--adapter", "mine", "--count", 1, "--steps", 1]
    assert run(*beside)[0] == 0  # as the message says


def test_an_embedding_is_one_file_of_one_tensor(run: Command, exports: dict[str, Path], tiny_model: Path) -> None:
    export = exports["textual-inversion"]
    status, out, err = run("export", export, "--format", "a1111", "--output", "words")
    assert (status, out, err) == (0, "words: README.md, new.safetensors\n", "")
    ((name, rows),) = load_file("words/new.safetensors").items()
    assert (name, rows.shape) == ("<new>", (2, 16))
    plain = build_pipeline(str(tiny_model), "cpu")
    plain.load_textual_inversion("words", weight_name="new.safetensors")
    prompt = prompt_for(export)
    assert (drawn(plain, prompt) == drawn(load_export(export, "cpu"), prompt)).all()


def test_every_word_of_several_subjects_is_a_file(run: Command, tiny_model: Path, tmp_path: Path) -> None:
    both: dict[str, Any] = {
        "subject.identifier": "<new>",
        "subject.others": "<zwx>=dog",
        "adapter.initial_word": "teapot",
    }
    export = make_export(tmp_path / "both", tiny_model, "textual-inversion", **both)
    status, out, err = run("export", export, "--format", "a1111", "--output", "words")
    assert (status, out, err) == (0, "words: README.md, new.safetensors, zwx.safetensors\n", "")
    for name, number in (("new", ""), ("zwx", "_2")):
        wanted = load_file(export / f"learned_embeds{number}.safetensors")
        ((identifier, rows),) = load_file(f"words/{name}.safetensors").items()
        assert (identifier, rows.tolist()) == (f"<{name}>", wanted[f"<{name}>"].tolist())


def test_of_two_runs_of_custom_diffusion_the_second_stays(
    run: Command, exports: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    words: dict[str, Any] = {"subject.identifier": "<zwx>", "adapter.initial_word": "dog"}
    other = make_export(tmp_path / "other", tiny_model, "custom-diffusion", seed=2, **words)
    note = "Note: The keys and values of other take the place of those of custom: "
    status, out, err = run("merge", exports["custom-diffusion"], other, "--output", "merged")
    assert (status, err, out.startswith(note)) == (0, "", True)
    drawing = ["a <new>", "--adapter", other, "--count", 1, "--steps", 1]
    status, out, err = run("generate", exports["custom-diffusion"], *drawing)
    assert (status, err, out.startswith(note)) == (0, "", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no format"),
        ("[]", "is damaged"),
        ('{"format": 1, "adapter": "lora"}', "has no model"),
        ("NEW", "holds an adapter 'lycoris' in format 1, which this version of lookforward does not know"),
    ],
)
def test_a_manifest_of_something_else(
    text: str, message: str, run: Command, exports: dict[str, Path], tmp_path: Path
) -> None:
    known = (exports["lora"] / MANIFEST).read_text()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / MANIFEST).write_text(known.replace('"lora"', '"lycoris"') if text == "NEW" else text)
    for words in (["generate", "odd", "a dog"], ["export", "odd", "--format", "kohya"], ["merge", "odd"]):
        status, _, err = run(*words, "--output", "out")
        assert (status, message in err) == (2, True), err


def test_a_run_is_exported_beside_its_export(run: Command, exports: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    manifest = read_manifest(exports["lora"])
    given = {"subject.class_noun": "teapot", "model.name": manifest["model"], "adapter.name": "lora"}
    settings = structure(given, "test")
    Run(folder, settings).begin([])
    status, _, err = run("export", folder, "--format", "kohya")
    assert (status, "run is not finished: run its training command again" in err) == (2, True)
    shutil.copytree(exports["lora"], folder / "export")
    assert open_run(folder).finished
    status, out, err = run("export", folder, "--format", "kohya")
    assert (status, out, err) == (0, f"{folder}/export-kohya: README.md, run.safetensors\n", "")
    assert run("export", folder, "--format", "diffusers")[0] == 0
    assert tree(folder / "export-diffusers") == tree(folder / "export")
    status, _, err = run("export", folder, "--format", "kohya")
    assert (status, "export-kohya exists already: give another --output, or delete it" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    status, _, err = run("export", folder, "--format", "kohya", "--output", tmp_path / "link")
    assert (status, "is a link or a mount point" in err) == (2, True)
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["export", "{full}", "--format", "kohya"],
            "The adapter 'full' has no format 'kohya': it has diffusers, merged, checkpoint.",
        ),
        (
            ["export", "{lora}", "--format", "a1111"],
            "has no format 'a1111': it has diffusers, comfyui, kohya, merged, checkpoint.",
        ),
        (["export", "{neti}", "--format", "merged"], "'neti' has no format 'merged': it has diffusers."),
        (["export", "{lora}", "--format", "kohya", "--strength", "1"], "--strength is only for --format merged"),
        (["export", "{model}", "--format", "merged"], "is a base model: give a run folder or an export"),
        (["export", "nowhere", "--format", "merged"], "There is no run folder nowhere"),
        (["merge", "{p-plus}"], "holds an adapter 'p-plus', which a pipeline folder cannot hold"),
        (["merge", "{lora}", "{neti}"], "holds an adapter 'neti', which a pipeline folder cannot hold"),
        (["merge", "{lora}", "{full}"], "is a full model, and two of them cannot be combined"),
        (["merge", "{full}", "{full}"], "is a full model, and two of them cannot be combined"),
        (["merge", "{lora}:strong"], "write EXPORT:STRENGTH with a number"),
        (["merge", "{textual-inversion}", "{custom-diffusion}"], "has a word '<new>' already"),
    ],
)
def test_what_cannot_be_converted(
    words: list[str], message: str, run: Command, exports: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    for name, path in {**exports, "model": tiny_model}.items():
        words = [word.replace(f"{{{name}}}", str(path)) for word in words]
    status, _, err = run(*words, "--output", tmp_path / "out")
    assert status == 2
    assert err.startswith("lookforward: ")
    assert message in err
    assert not list(tmp_path.iterdir())


def test_an_export_needs_a_place(run: Command, exports: dict[str, Path], tmp_path: Path) -> None:
    status, _, err = run("export", exports["lora"], "--format", "kohya")
    assert (status, "give the output folder with --output FOLDER" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    with contextlib.chdir("empty"):
        status, _, err = run("merge", exports["lora"], "--output", ".")
    assert (status, "give the name of a new folder as --output" in err) == (2, True)
    (tmp_path / "file").write_text("mine")
    for words in (["export", exports["lora"], "--format", "kohya"], ["merge", exports["lora"]]):
        status, _, err = run(*words, "--output", "file")
        assert (status, "file exists already" in err) == (2, True)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("words", [["export", "{}", "--format", "diffusers"], ["merge", "{}"]])
def test_a_full_disk_leaves_nothing(
    words: list[str], run: Command, exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    status, _, err = run(*(word.format(exports["lora"]) for word in words), "--output", "out")
    assert status == 2
    assert "out cannot be written: the disk is full" in err
    assert not list(tmp_path.iterdir())


def test_file_names() -> None:
    assert [file_name(word) for word in ("sks", "<new>", "../a b", "<>", "é-1")] == ["sks", "new", "a-b", "word", "é-1"]
    assert (MANIFEST, CARD) == ("lookforward.json", "README.md")
