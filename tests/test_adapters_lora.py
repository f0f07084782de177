"""LoRA and DoRA: what is trained, what is left as it was, and what other tools make of the files."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from conftest import make_pipeline
from documented import draw_elsewhere, page_script
from errors import raises
from jobs import SETTINGS
from lookforward import personalize
from lookforward.adapters.comfyui import to_comfyui, write_comfyui
from lookforward.adapters.lora import WEIGHTS, LoraAdapter, layers_of, load_lora, merge_lora
from lookforward.algorithm.examples import PromptCache
from lookforward.algorithm.trainer import Trainer, train
from lookforward.config.recipe import load_settings
from lookforward.core.types import State
from lookforward.exports.load import load_export, manifest_of
from lookforward.exports.write import export
from lookforward.models.families.sd import SD
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward_toybox import MODEL
from tiny import seeded, tiny_trainer

KINDS = list(itertools.product([False, True], [False, True]))  # dora, train_text_encoder
kinds = pytest.mark.parametrize(("dora", "text"), KINDS)
both = pytest.mark.parametrize(("dora", "text"), [(False, True), (True, False)])


def lora(dora: bool = False, text: bool = False, seed: int = 0, rank: int = 2, alpha: float = 4.0) -> LoraAdapter:
    return LoraAdapter(rank, alpha, text, dora, seeded(seed))


def disturbed(pipeline: StableDiffusionPipeline, adapter: LoraAdapter) -> DiffusionPolicy:
    """A policy whose adapter has learned something at random, enough to be seen."""
    policy = DiffusionPolicy(pipeline)
    generator = seeded(5)
    for name, parameter in adapter.attach(policy).items():
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * noise if ".lora_B." in name else 0.1 * noise.abs() if "magnitude" in name else 0)
    return policy


def draw(pipeline: Any) -> np.ndarray:
    return draw_images(pipeline, ["a photo of sks dog on the beach"], [0], steps=2, guidance=7.5).astype(int)


def weights(pipeline: StableDiffusionPipeline) -> dict[str, Tensor]:
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder, "vae": pipeline.vae}
    return {f"{part}.{n}": t.clone() for part, module in parts.items() for n, t in module.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@kinds
def test_only_its_own_parameters_are_trained_and_it_begins_as_the_model(dora: bool, text: bool) -> None:
    pipeline = make_pipeline()
    before = draw(pipeline)
    pipeline.unet.requires_grad_(True)  # whatever was trained before
    chance = torch.get_rng_state()
    parameters = lora(dora, text).attach(DiffusionPolicy(pipeline))
    assert torch.equal(torch.get_rng_state(), chance)
    modules = (pipeline.unet, pipeline.text_encoder, pipeline.vae)
    trained = {id(p) for module in modules for p in module.parameters() if p.requires_grad}
    assert trained == {id(p) for p in parameters.values()}
    assert {name.split(".")[0] for name in parameters} == ({"unet", "text_encoder"} if text else {"unet"})
    layers = 4 * 2 * 4 + (4 if text else 0)  # four projections of each of two attentions, in four places
    assert len(parameters) == layers * (3 if dora else 2)
    assert not any(module.training for module in pipeline.unet.modules())
    assert np.abs(draw(pipeline) - before).max() <= (1 if dora else 0)  # B is zero


def test_it_begins_from_its_own_seed_alone() -> None:
    first = lora(text=True).attach(DiffusionPolicy(make_pipeline(0)))
    torch.manual_seed(77)
    again = lora(text=True).attach(DiffusionPolicy(make_pipeline(1)))
    other = lora(text=True, seed=1).attach(DiffusionPolicy(make_pipeline(0)))
    assert_same(dict(first), dict(again))
    assert list(first) == list(again)
    for name, parameter in first.items():
        assert torch.equal(parameter, other[name]) == (".lora_B." in name)
    drawn = torch.cat([p.flatten() for name, p in first.items() if ".lora_A." in name])
    assert drawn.std().item() == pytest.approx(1 / 2, rel=0.1)  # 1 / rank


@both
def test_detach_leaves_the_model_as_it_was_and_it_can_be_attached_again(dora: bool, text: bool) -> None:
    pipeline = make_pipeline()
    before, image, classes = weights(pipeline), draw(pipeline), [type(m) for m in pipeline.unet.modules()]
    adapter = lora(dora, text)
    policy = disturbed(pipeline, adapter)
    assert np.abs(draw(pipeline) - image).mean() > 1
    adapter.detach(policy)
    assert_same(weights(pipeline), before)
    assert [type(m) for m in pipeline.unet.modules()] == classes
    assert (draw(pipeline) == image).all()
    again = lora(dora, text).attach(policy)
    assert_same(dict(again), dict(lora(dora, text).attach(DiffusionPolicy(make_pipeline()))))


@both
def test_half_precision_reaches_every_parameter(dora: bool, text: bool) -> None:
    pipeline = make_pipeline()
    policy = DiffusionPolicy(pipeline, "bf16")
    parameters = lora(dora, text).attach(policy)
    for name, parameter in parameters.items():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=seeded())
    words = policy.encode_prompts(["a red dog", "a vase"])
    action = policy.act(State(torch.randn(2, 4, 8, 8, generator=seeded()), torch.tensor([3, 700]), words))
    assert action.dtype == torch.float32
    action.square().mean().backward()
    for name, parameter in parameters.items():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def fresh(dora: bool, text: bool, seed: int = 0) -> Trainer:
    """A trainer of the tiny Stable Diffusion, in all else that of tests/tiny.py."""
    trainer = tiny_trainer(seed, critic="none")
    policy = DiffusionPolicy(make_pipeline())
    adapter = LoraAdapter(2, 2.0, text, dora, trainer.adapter_generator)
    trainer.policy, trainer.parameters = policy, adapter.attach(policy)
    trainer.prompts = PromptCache(policy, adapter.changes_prompts)
    trainer.optimizer = torch.optim.AdamW(trainer.parameters.values(), lr=0.01)
    return trainer


@both
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, dora: bool, text: bool) -> None:
    straight = fresh(dora, text)
    terms = [result.terms for result in train(straight, 4)]
    first = fresh(dora, text)
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    second = fresh(dora, text, seed=9)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    assert_same(dict(second.parameters), dict(straight.parameters))
    begun = fresh(dora, text).parameters
    assert all(not torch.equal(p, begun[name]) for name, p in straight.parameters.items())


@pytest.fixture(scope="module")
def toybox_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[bool, bool], tuple[Path, np.ndarray]]:
    """Exports on Toybox's model, by kind, and what was drawn before each was written."""
    root = tmp_path_factory.mktemp("lora")
    pipeline = load_pipeline(MODEL)
    made = {}
    for dora, text in KINDS:
        adapter = lora(dora, text, rank=4, alpha=8.0)
        policy = disturbed(pipeline, adapter)
        folder = root / f"{'dora' if dora else 'lora'}-{text}"
        settings = load_settings(
            "dreambooth", {"adapter.name": "dora" if dora else "lora", "subject.class_noun": "dog"}
        )
        export(adapter, policy, folder, manifest_of(settings))
        made[dora, text] = folder, draw(pipeline)
        adapter.detach(policy)
    return made


def test_plain_diffusers_draws_the_same_image(
    toybox_exports: dict[tuple[bool, bool], tuple[Path, np.ndarray]], tmp_path: Path
) -> None:
    scripts = [page_script("lora", MODEL, f, steps=2, guidance=7.5, seed=0) for f, _ in toybox_exports.values()]
    untouched = draw(load_pipeline(MODEL))
    images = []
    for plain, (folder, ours) in zip(draw_elsewhere(scripts, tmp_path), toybox_exports.values(), strict=True):
        assert (plain == ours[0]).all(), folder.name
        assert np.abs(ours - untouched).mean() > 5, folder.name
        images.append(ours)
    assert all(np.abs(a - b).mean() > 1 for a, b in itertools.combinations(images, 2))


@both
def test_the_export_is_loaded_by_its_manifest(
    toybox_exports: dict[tuple[bool, bool], tuple[Path, np.ndarray]], dora: bool, text: bool
) -> None:
    folder, ours = toybox_exports[dora, text]
    chance = torch.get_rng_state()
    pipeline = load_export(folder, "cpu")
    assert torch.equal(torch.get_rng_state(), chance)
    assert (draw(pipeline) == ours).all()
    assert not any(p.requires_grad for m in (pipeline.unet, pipeline.text_encoder) for p in m.parameters())


@both
def test_the_file_is_named_and_filled_as_diffusers_does(tmp_path: Path, dora: bool, text: bool) -> None:
    pipeline, adapter = make_pipeline(), lora(dora, text, rank=2, alpha=4.0)
    policy = disturbed(pipeline, adapter)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        adapter.export(policy, tmp_path / name)
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["pytorch_lora_weights.safetensors"]
    assert (tmp_path / "first" / WEIGHTS).read_bytes() == (tmp_path / "second" / WEIGHTS).read_bytes()
    layers = load_file(tmp_path / "first" / WEIGHTS)
    learned = [p for m in (pipeline.unet, pipeline.text_encoder) for p in m.parameters() if p.requires_grad]
    assert sum(t.numel() for t in layers.values()) == sum(p.numel() for p in learned)
    place = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    assert f"unet.{place}.to_out.0.lora.down.weight" in layers
    assert f"unet.{place}.to_k.lora.up.weight" in layers
    word = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight"
    assert (word in layers) == text
    with safe_open(tmp_path / "first" / WEIGHTS, "pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    for part in ("unet", "text_encoder") if text else ("unet",):
        assert settings[f"{part}.r"] == 2
        assert settings[f"{part}.lora_alpha"] == 2.0  # alpha / rank is in the weights
        assert settings[f"{part}.use_dora"] is dora


@pytest.mark.parametrize("alpha", [1.0, 3.0, 7.0])
def test_a_reader_without_the_metadata_draws_the_same(tmp_path: Path, alpha: float) -> None:
    adapter = lora(text=True, rank=2, alpha=alpha)
    trained = disturbed(make_pipeline(), adapter)
    adapter.export(trained, tmp_path)
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / "bare.safetensors")
    pipeline = make_pipeline()
    pipeline.load_lora_weights(str(tmp_path), weight_name="bare.safetensors")
    assert np.abs(draw(pipeline).astype(int) - draw(trained.pipeline)).max() <= 1


@both
def test_a_run_begins_from_an_earlier_lora(tmp_path: Path, dora: bool, text: bool) -> None:
    earlier = lora(dora, text, rank=2, alpha=4.0)
    trained = disturbed(make_pipeline(), earlier)
    (tmp_path / "export").mkdir()
    earlier.export(trained, tmp_path / "export")
    image = draw(trained.pipeline)
    for alpha in (2.0, 8.0):  # of the run that goes on, which may count the change otherwise
        policy = DiffusionPolicy(make_pipeline())
        replace(lora(dora, text, rank=2, alpha=alpha), start=str(tmp_path)).attach(policy)
        assert (draw(policy.pipeline) == image).all()
    with raises("start-misfit", "adapter.rank"):
        replace(lora(dora, text, rank=3), start=str(tmp_path)).attach(DiffusionPolicy(make_pipeline()))
    with raises("export-unreadable", "nowhere"):
        replace(lora(dora, text), start="nowhere").attach(DiffusionPolicy(make_pipeline()))


@both
def test_strength_goes_from_the_untouched_model_to_the_trained_one(tmp_path: Path, dora: bool, text: bool) -> None:
    adapter = lora(dora, text)
    trained = disturbed(make_pipeline(), adapter)
    adapter.export(trained, tmp_path)
    untouched, full = draw(make_pipeline()), draw(trained.pipeline)
    images = {}
    for strength in (0.0, 0.5, 1.0):
        pipeline = make_pipeline()
        load_lora(pipeline, tmp_path, strength)
        images[strength] = draw(pipeline)
    merged = make_pipeline()
    names = weights(merged).keys()
    merge_lora(merged, tmp_path, 0.5)
    assert np.abs(draw(merged) - images[0.5]).max() <= 1  # the same sum in another order
    assert weights(merged).keys() == names
    assert not merged.get_list_adapters()
    assert np.abs(images[0.0] - untouched).max() <= 1
    assert (images[1.0] == full).all()
    assert min(np.abs(images[0.5] - other).mean() for other in (untouched, full)) > 1


def test_two_of_them_act_together(tmp_path: Path) -> None:
    for name, text in (("one", False), ("two", True)):
        adapter = lora(text=text)
        (tmp_path / name).mkdir()
        adapter.export(disturbed(make_pipeline(), adapter), tmp_path / name)
    twice, together = make_pipeline(), make_pipeline()
    for name, strength in (("one", 0.7), ("two", 0.4)):
        merge_lora(twice, tmp_path / name, strength)
        load_lora(together, tmp_path / name, strength)
    assert np.abs(draw(twice) - draw(together)).max() <= 1
    alone = make_pipeline()
    load_lora(alone, tmp_path / "two", 0.4)
    assert np.abs(draw(alone) - draw(together)).mean() > 1


def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    adapter = lora(text=True)
    adapter.export(disturbed(load_pipeline(MODEL), adapter), tmp_path)
    pipeline = make_pipeline()
    before = weights(pipeline)
    for folder, code in ((tmp_path, "export-misfit"), (tmp_path / "nowhere", "export-unreadable")):
        with raises(code, WEIGHTS):
            load_lora(pipeline, folder)
        assert_same(weights(pipeline), before)


@pytest.mark.parametrize(("rank", "alpha", "name"), [(0, 1.0, "adapter.rank"), (4, 0.0, "adapter.alpha")])
def test_settings_out_of_range(rank: int, alpha: float, name: str) -> None:
    with raises("setting-range", name):
        lora(rank=rank, alpha=alpha)


def sd_14() -> Any:
    """Stable Diffusion 1.4's UNet and text encoder, without memory."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280),
            cross_attention_dim=768,
            attention_head_dim=8,
            layers_per_block=2,
        )
        text = CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, vocab_size=49408
        )
        parts = {"unet": unet, "text_encoder": CLIPTextModel(text)}
        return SimpleNamespace(components=parts, denoiser=unet, family=SD, device=torch.device("meta"))


def kohya_names() -> Iterator[tuple[str, int, int]]:
    """SD 1.4's attention projections as kohya names them, with the widths of what goes in and out, by hand."""
    places = {
        "down_blocks_0_attentions_0": 320, "down_blocks_0_attentions_1": 320,
        "down_blocks_1_attentions_0": 640, "down_blocks_1_attentions_1": 640,
        "down_blocks_2_attentions_0": 1280, "down_blocks_2_attentions_1": 1280,
        "mid_block_attentions_0": 1280,
        "up_blocks_1_attentions_0": 1280, "up_blocks_1_attentions_1": 1280, "up_blocks_1_attentions_2": 1280,
        "up_blocks_2_attentions_0": 640, "up_blocks_2_attentions_1": 640, "up_blocks_2_attentions_2": 640,
        "up_blocks_3_attentions_0": 320, "up_blocks_3_attentions_1": 320, "up_blocks_3_attentions_2": 320,
    }  # fmt: skip
    for place, width in places.items():
        for attention, words in (("attn1", width), ("attn2", 768)):
            name = f"lora_unet_{place}_transformer_blocks_0_{attention}"
            yield from ((f"{name}_to_q", width, width), (f"{name}_to_out_0", width, width))
            yield from ((f"{name}_to_k", words, width), (f"{name}_to_v", words, width))
    for layer in range(12):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"lora_te_text_model_encoder_layers_{layer}_self_attn_{projection}", 768, 768


@pytest.mark.parametrize(("dora", "counts"), [(False, (797_184, 1_092_096)), (True, (897_024, 1_228_800))])
def test_stable_diffusion_1_4(dora: bool, counts: tuple[int, int]) -> None:
    """The counts of docs/adapters/lora.md, without and with the text encoder, and kohya's names and shapes."""
    model = sd_14()
    parameters = lora(dora, text=True, rank=4, alpha=2.0).attach(model)
    assert sum(p.numel() for name, p in parameters.items() if name.startswith("unet.")) == counts[0]
    assert sum(p.numel() for p in parameters.values()) == counts[1]
    parts = ("unet", "text_encoder")
    layers = {f"{part}.{name}": t for part in parts for name, t in layers_of(model.components[part]).items()}
    made = to_comfyui(layers, {"unet": 2.0, "text_encoder": 2.0}, SD)
    wanted: dict[str, tuple[int, ...]] = {}
    for name, width_in, width_out in kohya_names():
        wanted |= {f"{name}.lora_down.weight": (4, width_in), f"{name}.lora_up.weight": (width_out, 4)}
        wanted |= {f"{name}.alpha": ()} | ({f"{name}.dora_scale": (width_out, 1)} if dora else {})
    assert {name: tuple(t.shape) for name, t in made.items()} == wanted
    assert {t.item() for name, t in made.items() if name.endswith(".alpha")} == {2.0}


@pytest.mark.parametrize("text", [False, True])
def test_diffusers_reads_the_kohya_file_as_the_same_lora(tmp_path: Path, text: bool) -> None:
    adapter = lora(text=text, rank=2, alpha=4.0)
    trained = disturbed(make_pipeline(), adapter)
    adapter.export(trained, tmp_path)
    write_comfyui(tmp_path, tmp_path / "out" / "dog_kohya.safetensors", "", SD)
    pipeline = make_pipeline()
    pipeline.load_lora_weights(str(tmp_path / "out"), weight_name="dog_kohya.safetensors")
    assert (draw(pipeline) == draw(trained.pipeline)).all()
    assert np.abs(draw(pipeline) - draw(make_pipeline())).mean() > 1
    with safe_open(tmp_path / "out" / "dog_kohya.safetensors", "pt") as file:
        assert file.metadata()["ss_network_dim"] == "2"
        assert file.metadata()["ss_network_alpha"] == "2.0"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_dora_in_kohyas_layout_is_the_same_weights(tmp_path: Path) -> None:
    """Read by LyCORIS's rule, each row of W + (alpha / rank)·BA brought to the length dora_scale."""
    adapter = lora(dora=True, text=True, rank=2, alpha=4.0)
    adapter.export(disturbed(make_pipeline(), adapter), tmp_path)
    write_comfyui(tmp_path, tmp_path / "kohya.safetensors", "", SD)
    file = load_file(tmp_path / "kohya.safetensors")
    merged, base = make_pipeline(), make_pipeline()
    merge_lora(merged, tmp_path)
    after, read = weights(merged), 0
    for name, weight in weights(base).items():
        part, _, place = name.removesuffix(".weight").partition(".")
        key = f"lora_{part}.{place}" if part == "unet" else f"lora_te.text_model.{place}"
        key = key.replace(".", "_")
        if f"{key}.dora_scale" in file:
            down, up, alpha = (file[f"{key}.{kind}"] for kind in ("lora_down.weight", "lora_up.weight", "alpha"))
            sum_ = weight + alpha / len(down) * up @ down
            weight = file[f"{key}.dora_scale"] * sum_ / sum_.norm(dim=1, keepdim=True)
            read += 1
        assert torch.allclose(after[name], weight, atol=1e-5), name
    assert 4 * read == len(file)


def test_kohya_says_what_it_cannot_convert(tmp_path: Path) -> None:
    with raises("export-unreadable", "lora or dora"):
        write_comfyui(tmp_path, tmp_path / "kohya.safetensors", "", SD)
    save_file({"transformer.block.lora_A.weight": torch.zeros(2, 2)}, tmp_path / WEIGHTS)
    with raises("format-family", "transformer.block"):
        write_comfyui(tmp_path, tmp_path / "kohya.safetensors", "", SD)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_a_whole_run(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "model.name": str(tiny_model), "run.steps": 3}
    teapot = personalize(photos, "teapot", output=tmp_path / "run", settings={"adapter.name": "lora", **settings})
    names = {path.name for path in teapot.run.export.iterdir()}
    assert {"pytorch_lora_weights.safetensors", "lookforward.json"} <= names
    assert teapot.generate("a photo of sks teapot", steps=2)[0].size == (32, 32)
    with raises("run-differs", "adapter.name"):
        personalize(photos, "teapot", output=tmp_path / "run", settings={"adapter.name": "dora", **settings})
