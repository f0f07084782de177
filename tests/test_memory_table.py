"""The memory that a run needs, by arithmetic: against what torch allocates, and against published sizes."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from errors import raises
from jobs import SETTINGS, Command
from lookforward.adapters import ADAPTERS
from lookforward.algorithm.trainer import train
from lookforward.assembly import build
from lookforward.assembly.fit import RESERVE, fit
from lookforward.assembly.memory import memory_table
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import name_subjects, read_subject
from lookforward.models.families import FAMILIES
from lookforward.models.live import LiveBytes, activation_bytes, fused_attention
from lookforward.models.memory import Row, Table, gradient_bytes, moment_bytes, parameters_of
from lookforward.models.meta import known_pipeline, known_prompt, known_sizes, meta_latents, meta_module, meta_pipeline

ROOT = Path(__file__).parents[1]
HERE = {name: importlib.util.find_spec(name) is not None for name in ("torchao", "bitsandbytes")}
SIZES = known_sizes()


def bytes_of(tensor: Tensor) -> int:
    """What a tensor takes; of a quantised one, its numbers and its scales."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()  # pyright: ignore[reportAttributeAccessIssue]
        return sum(bytes_of(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()


def held(*modules: nn.Module) -> int:
    """Bytes of the frozen weights and of the buffers of modules."""
    buffers = {id(b): b for module in modules for b in module.buffers()}
    return sum(bytes_of(one) for one in (*parameters_of(*modules, trained=False), *buffers.values()))


CASES = [
    ({"adapter.name": "full", "adapter.train_text_encoder": True}, ()),
    ({"adapter.name": "full", "adapter.train_text_encoder": False}, ()),
    ({"adapter.name": "lora"}, ()),
    ({"adapter.name": "dora", "adapter.train_text_encoder": True, "adapter.rank": 2}, ()),
    ({"adapter.name": "lora", "model.weights": "bf16", "model.precision": "bf16"}, ()),
    ({"adapter.name": "lora", "model.weights": "int8"}, ("torchao",)),
    ({"adapter.name": "lora", "model.weights": "int8", "model.precision": "bf16"}, ("torchao",)),
    ({"adapter.name": "lora", "model.weights": "fp8"}, ("torchao",)),
    ({"adapter.name": "full", "optimizer.eight_bit": True}, ("bitsandbytes",)),
]


@pytest.mark.parametrize(
    ("changed", "needs"),
    CASES,
)
def test_the_table_has_what_torch_allocates(
    changed: dict[str, Any], needs: tuple[str, ...], tiny_model: Path, photos: Path
) -> None:
    if not all(HERE[name] for name in needs):
        pytest.skip("needs the extra memory")
    given = SETTINGS | {"model.name": str(tiny_model), "model.device": "cpu", "subject.photos": str(photos)}
    given |= {"subject.class_noun": "teapot"} | changed
    settings = load_settings("look-forward", name_subjects(photos, given))
    rows = {row.part: row for row in memory_table(settings).rows}
    components = build(settings, read_subject(photos, settings))
    list(train(components.trainer, 1))
    policy, trained = components.policy, list(components.trainer.parameters.values())

    def said(part: str) -> int:
        return rows[part].bytes if part in rows else 0

    if parameters_of(policy.denoiser, trained=False):
        assert said("denoiser, frozen") == held(policy.denoiser)
    if parameters_of(*policy.text_encoders.values(), trained=False):
        assert said("text encoders, frozen") == held(*policy.text_encoders.values())
    assert said("autoencoder") == held(components.pipeline.vae)
    assert said("trained weights") == sum(bytes_of(one) for one in trained)
    assert rows["trained weights"].parameters == sum(one.numel() for one in trained)
    assert said("gradients") == sum(bytes_of(one.grad) for one in trained if one.grad is not None)
    state = components.trainer.optimizer.state.values()
    shared = {"step", "qmap1", "qmap2"}  # of all weights together, or of one number
    assert said("optimizer") == sum(bytes_of(v) for one in state for k, v in one.items() if k not in shared)


def test_fused_updates_hold_one_gradient() -> None:
    weights = [nn.Parameter(torch.zeros(size)) for size in (10, 30, 20)]
    assert gradient_bytes(weights) == 240
    assert gradient_bytes(weights, fused=True) == 120
    assert moment_bytes(weights, eight_bit=True) == moment_bytes(weights) == 480  # too small for 8 bits


def test_live_bytes_are_those_of_tensors_that_are_there() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(8, 4), torch.empty(2, 8)
        with LiveBytes(layer) as live:
            y = layer(x)  # (2, 4)
            assert live.now == live.peak == 32
            z = y.view(8)  # no further bytes
            assert live.now == 32
            del y, z
            assert (live.now, live.peak) == (0, 32)


def test_activations_grow_with_the_batch_and_shrink_with_checkpointing() -> None:
    def count(batch: int, checkpointing: bool, dtype: torch.dtype = torch.float32) -> int:
        pipeline = known_pipeline(SIZES["sd15"])
        family = next(one for one in FAMILIES if one.pipeline_class == "StableDiffusionPipeline")
        denoiser = getattr(pipeline, family.denoiser).requires_grad_(True)
        if checkpointing:
            denoiser.enable_gradient_checkpointing()
        prompt = known_prompt(SIZES["sd15"]).expand(batch)
        latents = torch.Size((batch, 4, 32, 32))
        return activation_bytes(family, denoiser, latents, prompt, dtype=dtype, trained=False)

    one = count(1, False)
    assert count(2, False) > 1.5 * one
    assert count(1, True) < 0.7 * one
    assert count(1, False, torch.bfloat16) < 0.7 * one


def test_attention_is_counted_as_fused_kernels_compute_it() -> None:
    with torch.device("meta"), fused_attention(), LiveBytes() as live:
        query = torch.empty(1, 1, 1000, 8, requires_grad=True)
        y = nn.functional.scaled_dot_product_attention(query, query, query)
        y.sum().backward()
    assert live.peak < 1000 * 1000  # bytes; the matrix of all pairs alone has four times as many
    assert query.grad is not None


PUBLISHED = {  # parameters of the denoiser, by the makers' model cards and papers, to the digits that they give
    "sd15": 859_520_964, "sdxl": 2_567_463_684, "flux1-dev": 11_901_408_320,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_models_have_the_size_that_is_published(name: str) -> None:
    size = SIZES[name]
    family = next((one for one in FAMILIES if one.pipeline_class == size["pipeline"]), None)
    part = family.denoiser if family else next(iter(size["modules"]))
    module = meta_module(*size["modules"][part])
    numbers = sum(one.numel() for one in (*module.parameters(), *module.buffers()))
    assert numbers / 1e9 == pytest.approx(size["billions"], rel=0.04)
    if name in PUBLISHED:
        assert sum(one.numel() for one in module.parameters()) == PUBLISHED[name]
    if family:
        pipeline = known_pipeline(size)
        assert meta_latents(pipeline, size["resolution"], 3)[0] == 3


def in_folder(model: Path, folder: Path, name: str) -> Path:
    """A pipeline folder with the configs of a known size, and tokenizers; its weights are never read."""
    size = SIZES[name]
    for source in model.rglob("*"):
        if source.is_file() and source.suffix != ".safetensors":
            target = folder / source.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    for part, (_, _, config) in size["modules"].items():  # the tiny model has the same parts
        (folder / part / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def sd15(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a full training of Stable Diffusion 1.5, whose activations are given: counting them takes seconds."""

    def rows(settings: Any, *_: Any) -> list[Row]:
        share = (1.0 if settings.model.precision == "fp32" else 0.5) * settings.run.batch_size
        return [Row("activations", int(share * (0.5e9 if settings.model.gradient_checkpointing else 5e9)))]

    monkeypatch.setattr("lookforward.assembly.memory._activation_rows", rows)
    folder = in_folder(tiny_model, tmp_path / "sd15", "sd15")
    return {"model.name": str(folder), "subject.class_noun": "teapot", "subject.photos": "photos"}


@pytest.mark.parametrize("gigabytes", [8, 12, 16, 24])
def test_what_is_chosen_fits(gigabytes: int, sd15: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookforward.assembly.fit._is_there", lambda name: False)
    found = fit("look-forward", sd15, gigabytes)
    settings = load_settings("look-forward", sd15 | found.changes)
    assert memory_table(settings).peak == found.table.peak <= (gigabytes - RESERVE) * 2**30
    assert len(found.reasons) == len(found.changes)
    assert all(reason.startswith(setting) for reason, setting in zip(found.reasons, found.changes, strict=True))
    if gigabytes == 24:  # 15.7 GB of weights, gradients and moments, and half a GB of activations
        assert found.changes in ({}, {"model.gradient_checkpointing": True})
    if gigabytes == 8:
        assert found.changes["adapter.name"] == "lora"


def test_no_chosen_setting_is_needless(sd15: dict[str, Any]) -> None:
    found = fit("look-forward", sd15, 12)
    for name in found.changes:
        fewer = {other: value for other, value in found.changes.items() if other != name}
        if fewer.get("model.weights") == "bf16" and fewer.get("model.precision") != "bf16":
            continue
        assert memory_table(load_settings("look-forward", sd15 | fewer)).peak > (12 - RESERVE) * 2**30, name


def test_what_was_given_stays_and_a_batch_is_cut_in_parts(sd15: dict[str, Any]) -> None:
    given = sd15 | {"adapter.name": "lora", "model.gradient_checkpointing": False, "run.batch_size": 4}
    found = fit("look-forward", given, 12)
    assert found.changes["run.accumulate"] == 4
    assert found.changes["run.batch_size"] == 1
    assert "model.gradient_checkpointing" not in found.changes
    with raises("does-not-fit", "8 GB", "GiB"):
        fit("look-forward", sd15 | {"adapter.name": "full", "optimizer.fused": False, "optimizer.eight_bit": False}, 8)


@pytest.mark.parametrize("spec", ADAPTERS, ids=lambda spec: spec.name)
def test_the_memory_of_every_adapter_is_known(spec: Any, tiny_model: Path) -> None:
    given = {"model.name": str(tiny_model), "adapter.name": spec.name, "data.resolution": 32}
    words = {"subject.class_noun": "dog", "subject.identifier": "<sks>"}
    table = memory_table(load_settings("look-forward", given | words))
    parts = {row.part: row.bytes for row in table.rows}
    if spec.name == "neti":  # it looks at the size of word embeddings, which have no numbers here
        assert any("neti" in what for what in table.unknown)
        return
    assert parts["gradients"] == parts["trained weights"] > 0
    if spec.name in ("loha", "lokr"):  # peft asks their weights for numbers as they compute
        assert [what.split()[0] for what in table.unknown] == ["activations"]
    else:
        assert table.unknown == ()
        assert parts["activations"] > 0


def test_a_folder_that_is_no_model_is_reported(tiny_model: Path, tmp_path: Path) -> None:
    folder = in_folder(tiny_model, tmp_path / "model", "sd15")
    (folder / "vae" / "config.json").unlink()
    with raises("model-incomplete", folder, "config.json"):
        meta_pipeline(folder)


def test_parts_that_are_away_do_not_count(sd15: dict[str, Any]) -> None:
    def table(**changed: Any) -> Table:
        names = {name.replace("__", "."): value for name, value in changed.items()}
        return memory_table(load_settings("look-forward", sd15 | {"adapter.name": "lora"} | names))

    plain, unloaded, offloaded = table(), table(model__unload=True), table(model__offload=True)
    away = sum(row.bytes for row in plain.rows if row.part in ("text encoders, frozen", "autoencoder"))
    assert plain.training - unloaded.training == away > 0
    assert plain.drawing == unloaded.drawing
    assert plain.training - offloaded.training == 4 * 859_520_964
    averaged = table(optimizer__ema=0.9)
    numbers = next(row.parameters for row in plain.rows if row.part == "trained weights")
    assert averaged.training - plain.training == 4 * numbers


def test_a_dry_run_shows_the_table_and_fit_says_what_it_chose(
    command_line: Command, photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    words = ["train", photos, "--class-noun", "teapot", "--model", tiny_model, "--resolution", "32", "--dry-run"]
    status, out, _ = command_line(*words, "--fit", "8", "--output", tmp_path / "run", "--device", "cpu")
    assert status == 0
    assert "8 GB" in out
    for part in ("autoencoder", "trained weights", "gradients", "optimizer", "activations", "critic"):
        assert part in out, part
    assert not (tmp_path / "run").exists()
