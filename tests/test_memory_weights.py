"""Frozen parts in low precision, kept off the device, or encoded once: what is trained and what comes of it."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from errors import raises
from jobs import SETTINGS
from lookforward.algorithm.trainer import train
from lookforward.assembly import RunComponents, build
from lookforward.assembly.placement import build_run_pipeline, frozen_parts, low_precision
from lookforward.assembly.training import TrainingJob
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.core.types import State
from lookforward.data.subject import Subject
from lookforward.data.subjects import name_subjects, read_subject
from lookforward.exports.load import load_export, model_hash
from lookforward.models.families.sd import SD
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images

TORCHAO = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs the extra memory")
LOW = ["bf16", pytest.param("int8", marks=TORCHAO), pytest.param("fp8", marks=TORCHAO)]
KINDS = {"bf16": "Parameter", "int8": "Int8Tensor", "fp8": "Float8Tensor"}  # of a frozen weight
# Largest error of x̂_0, of its largest number, against single precision; docs/memory.md states them
WITHIN = {"bf16": 0.01, "int8": 0.002, "fp8": 0.02}


@pytest.fixture(scope="module")
def subject_of(photos: Path, tiny_model: Path) -> Any:
    def settings_and_subject(**changed: Any) -> tuple[Settings, Subject]:
        given = SETTINGS | {"model.name": str(tiny_model), "adapter.name": "lora", "model.device": "cpu"}
        names = {name.replace("__", "."): value for name, value in changed.items()}
        given |= {"subject.photos": str(photos), "subject.class_noun": "teapot"} | names
        settings = load_settings("look-forward", name_subjects(photos, given))
        return settings, read_subject(photos, settings)

    return settings_and_subject


def trained(components: RunComponents, steps: int = 3) -> dict[str, Tensor]:
    list(train(components.trainer, steps))
    return {name: parameter.detach().clone() for name, parameter in components.trainer.parameters.items()}


def precision_of(weights: str) -> str:
    return "bf16" if weights == "bf16" else "fp32"


@pytest.mark.parametrize("weights", LOW)
@pytest.mark.parametrize("text", [True, False], ids=["text-trained", "text-frozen"])
def test_a_lora_in_single_precision_trains_over_weights_in_low_precision(
    weights: str, text: bool, subject_of: Any
) -> None:
    asked = {"model__weights": weights, "model__precision": precision_of(weights), "adapter__train_text_encoder": text}
    components = build(*subject_of(**asked))
    layer = components.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.base_layer
    assert type(layer.weight).__name__ == KINDS[weights]
    assert weights != "bf16" or layer.weight.dtype == torch.bfloat16
    before = {name: parameter.detach().clone() for name, parameter in components.trainer.parameters.items()}
    after = trained(components)
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    moved = [name for name in after if not torch.equal(before[name], after[name])]
    assert any("lora_A" in name for name in moved)
    assert any("lora_B" in name for name in moved)
    assert any(name.startswith("text_encoder") for name in moved) == text
    assert all(not parameter.requires_grad for parameter in components.pipeline.vae.parameters())


@pytest.mark.parametrize("adapter", ["loha", "lokr", "oft"])
@pytest.mark.parametrize("weights", LOW)
def test_adapters_of_peft_train_in_single_precision_over_low(weights: str, adapter: str, subject_of: Any) -> None:
    asked = {"model__weights": weights, "model__precision": precision_of(weights), "adapter__name": adapter}
    components = build(*subject_of(**asked, adapter__train_text_encoder=True))
    layer = components.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.base_layer
    assert layer.weight.dtype == torch.bfloat16 if weights == "bf16" else type(layer.weight).__name__ == KINDS[weights]
    before = {name: parameter.detach().clone() for name, parameter in components.trainer.parameters.items()}
    after = trained(components)
    assert {value.dtype for value in (*before.values(), *after.values())} == {torch.float32}
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"unet", "text_encoder"}


@pytest.mark.parametrize("weights", LOW)
def test_x_0_hat_differs_from_single_precision_by_little(weights: str, subject_of: Any) -> None:
    found = []
    for chosen in ("fp32", weights):
        asked = {"model__weights": chosen, "model__precision": precision_of(weights)}
        settings, subject = subject_of(**asked)
        policy = DiffusionPolicy(build_run_pipeline(settings), settings.model.precision)
        generator = torch.Generator().manual_seed(0)
        x_t = torch.randn(4, 4, 8, 8, generator=generator)
        timestep = torch.tensor([10, 250, 500, 900])
        with torch.no_grad():
            words = policy.encode_prompts([subject.prompt]).expand(4)
            action = policy.act(State(x_t, timestep, words))
        found.append(policy.prediction.x_0_hat(action, x_t, *policy.path.at(timestep)))
    exact, low = found
    # by the size of what is learned from it: at high noise x̂_0 itself is divided by almost nothing
    error = ((low - exact).abs().amax(dim=(1, 2, 3)) / exact.abs().amax(dim=(1, 2, 3))).max().item()
    print(f"x̂_0 of {weights}: {error:.4f}")
    assert 0 < error < WITHIN[weights]


@pytest.mark.parametrize("weights", LOW)
def test_the_base_is_known_by_its_files_whatever_it_is_stored_in(
    weights: str, subject_of: Any, tiny_model: Path, tmp_path: Path
) -> None:
    settings, subject = subject_of(model__weights=weights, model__precision=precision_of(weights))
    job = TrainingJob(tmp_path / "run", settings, subject)
    list(job)
    pipeline = load_export(job.run.export, "cpu")  # refused, if the base were another
    image = draw_images(pipeline, ["a photo of sks teapot"], [0], steps=2, guidance=2.0)
    assert image.shape == (1, 32, 32, 3)
    assert model_hash(build_run_pipeline(settings)) == model_hash(build_pipeline(str(tiny_model), "cpu"))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("text", [True, False], ids=["text-trained", "text-frozen"])
def test_training_from_the_cache_equals_training_without_it(
    text: bool, subject_of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path))
    asked = {"adapter__train_text_encoder": text, "data__flip": True}
    plain = trained(build(*subject_of(**asked)))
    assert not (tmp_path / "encoded").exists()
    first = trained(build(*subject_of(**asked, model__cache=True)))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "encoded").iterdir()}
    assert len(files) == (1 if text else 2)  # photos; and prompts, where their encoder stays as it is
    again = build(*subject_of(**asked, model__cache=True))
    if not text:
        monkeypatch.setattr(DiffusionPolicy, "encode_prompts", lambda *_: pytest.fail("a prompt was encoded again"))
    assert same(plain, first)
    assert same(plain, trained(again))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "encoded").iterdir()} == files


def test_what_is_cached_depends_on_photos_prompts_and_model(
    subject_of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path))

    def count(**changed: Any) -> int:
        trained(build(*subject_of(model__cache=True, **changed)), 1)
        return len(list((tmp_path / "encoded").iterdir()))

    assert count() == 2
    assert count(run__seed=5) == 2
    assert count(subject__identifier="zwx") == 3  # the prompt
    assert count(data__flip=True) == 4  # the photos
    assert count(model__precision="bf16") == 6  # both
    damaged = next(iter((tmp_path / "encoded").iterdir()))
    damaged.write_bytes(b"damaged")
    assert count() in (6, 7)


def test_parts_that_rest_are_brought_back_when_they_are_needed(
    subject_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_settings, subject = subject_of()
    plain = TrainingJob(tmp_path / "plain", plain_settings, subject)
    list(plain)
    moves: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        "lookforward.models.placement.Placement._move", lambda self, names, device: moves.append(tuple(names))
    )
    job = TrainingJob(tmp_path / "unloaded", *subject_of(model__unload=True))
    list(job)
    moves = [names for names in moves if names]
    assert moves[0] == ("text_encoder", "vae")
    assert moves.count(("text_encoder", "vae")) == 1 + 2 * 2  # at first, then twice for each sheet of samples
    for file in ("export/pytorch_lora_weights.safetensors", "samples/step-000003.png", "samples/step-000006.png"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "unloaded" / file).read_bytes(), file


@pytest.mark.parametrize(
    ("changed", "resting"),
    [
        ({}, ["text_encoder", "vae"]),
        ({"adapter__train_text_encoder": True}, ["vae"]),
        ({"objective__reward": "look-forward + 0.1*ssim"}, ["text_encoder"]),
    ],
)
def test_what_a_step_needs_does_not_rest(changed: dict[str, Any], resting: list[str], subject_of: Any) -> None:
    components = build(*subject_of(model__unload=True, **changed))
    assert list(components.policy.placement.resting) == resting
    assert build(*subject_of(**changed)).policy.placement.resting == ()


@pytest.mark.parametrize("checkpointing", [True, False])
def test_offloaded_blocks_train_alike(checkpointing: bool, subject_of: Any) -> None:
    asked = {"model__gradient_checkpointing": checkpointing}
    plain = trained(build(*subject_of(**asked)))
    components = build(*subject_of(**asked, model__offload=True))
    assert components.policy.offloaded
    assert same(plain, trained(components))


def test_weights_are_kept_for_the_backward_pass_of_an_offloaded_convolution() -> None:
    from lookforward.models.placement import keeping_weights

    layer = torch.nn.Conv2d(1, 1, 3).requires_grad_(False)
    x = torch.randn(1, 1, 5, 5, requires_grad=True)
    for keeps in (True, False):
        layer.weight.data = torch.ones(1, 1, 3, 3)
        if keeps:
            with keeping_weights():
                y = layer(x)
        else:
            y = layer(x)
        layer.weight.data = torch.zeros(1, 1, 3, 3)  # as an offloaded layer's is replaced by what is elsewhere
        gradient = torch.autograd.grad(y.sum(), x)[0]
        assert (gradient.abs().sum().item() > 0) == keeps


def test_what_is_frozen_follows_from_the_adapter(subject_of: Any) -> None:
    both = {"unet", "text_encoder"}
    for name, text, expected in (
        ("lora", True, both),
        ("dora", False, both),
        ("loha", True, both),
        ("lokr", True, both),
        ("oft", True, both),
        ("full", True, set()),
        ("full", False, {"text_encoder"}),
        ("textual-inversion", True, {"unet"}),
        ("p-plus", False, {"unet"}),
        ("custom-diffusion", False, set()),
    ):
        settings, _ = subject_of(adapter__name=name, adapter__train_text_encoder=text)
        assert frozen_parts(settings, SD) == expected, name


def test_low_precision_is_refused_where_it_cannot_be(subject_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises("settings-conflict", "model.weights", "full"):
        low_precision(subject_of(adapter__name="full", model__weights="int8")[0])
    with raises("settings-conflict", "model.weights", "bf16", "exports"):  # which a whole pipeline is
        low_precision(subject_of(adapter__name="full", model__weights="int8", adapter__train_text_encoder=False)[0])
    with raises("settings-conflict", "model.precision"):
        low_precision(subject_of(model__weights="bf16")[0])
    with raises("settings-conflict", "model.offload", "full"):
        build_run_pipeline(subject_of(adapter__name="full", model__offload=True)[0])
    monkeypatch.setattr("lookforward.models.packages.find_spec", lambda name: None)
    for weights, package in (("int8", "torchao"), ("fp8", "torchao"), ("nf4", "bitsandbytes")):
        with raises("package-missing", package, "lookforward[memory]", weights):
            low_precision(subject_of(model__weights=weights)[0])
    assert low_precision(replace(subject_of()[0])) is None
