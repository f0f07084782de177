"""LoHa, LoKr and OFT, and the layers that an adapter sits on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from conftest import make_pipeline
from errors import raises
from exports import make_export
from jobs import SETTINGS
from lookforward import personalize
from lookforward.adapters import ADAPTERS
from lookforward.adapters.lora import LoraAdapter, load_lora
from lookforward.adapters.lycoris import write_lycoris
from lookforward.adapters.peft_layers import PeftAdapter
from lookforward.algorithm.trainer import train
from lookforward.assembly.adapter import build_adapter
from lookforward.config.recipe import load_settings
from lookforward.core.specs import find_spec
from lookforward.core.types import State
from lookforward.exports.load import apply_export
from lookforward.models.families.sd import SD
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import pipeline_trainer, seeded
from tiny_sdxl import make_sdxl

NAMES = ("loha", "lokr", "oft")
kinds = pytest.mark.parametrize("name", NAMES)
PLACE = "down_blocks.0.attentions.0.transformer_blocks.0"


def adapter_of(name: str, seed: int = 0, **values: Any) -> PeftAdapter:
    given = {"adapter.rank": 2, "adapter.alpha": 3.0, "adapter.oft_block_size": 8, "adapter.train_text_encoder": True}
    settings = load_settings(
        "dreambooth", {"adapter.name": name, "model.name": "none", **{f"{n}": v for n, v in given.items()}, **values}
    )
    made = build_adapter(settings, seeded(seed))
    assert isinstance(made, PeftAdapter)
    return made


def disturb(parameters: dict[str, Any]) -> None:
    generator = seeded(5)
    with torch.no_grad():
        for _, parameter in sorted(parameters.items()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


def draw(pipeline: Any) -> np.ndarray:
    prompts = ["a photo of a red dog", "a vase in the snow"]
    return draw_images(pipeline, prompts, [0, 1], steps=3, guidance=3.0, resolution=32).astype(np.int64)


def weights(pipeline: Any) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value.clone()
        for part in ("unet", "text_encoder")
        for name, value in getattr(pipeline, part).state_dict().items()
    }


@kinds
def test_it_begins_as_the_model_and_leaves_it_as_it_was(name: str) -> None:
    pipeline = make_pipeline()
    policy, before, image = DiffusionPolicy(pipeline), weights(pipeline), draw(pipeline)
    rng = torch.get_rng_state()
    first = {n: p.detach().clone() for n, p in adapter_of(name).attach(policy).items()}
    assert torch.equal(torch.get_rng_state(), rng)
    assert (draw(pipeline) == image).all()
    learned = {n: p for part, m in policy.components.items() for n, p in m.named_parameters(part) if p.requires_grad}
    assert learned.keys() == first.keys()
    assert {n.partition(".")[0] for n in first} == {"unet", "text_encoder"}
    adapter = adapter_of(name)
    adapter.detach(policy)
    after = weights(pipeline)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[n]) for n, value in before.items())
    again = adapter.attach(policy)
    assert all(torch.equal(value, again[n]) for n, value in first.items())
    adapter.detach(policy)
    other = adapter_of(name, seed=1).attach(policy)
    assert (name == "oft") == all(torch.equal(value, other[n]) for n, value in first.items())  # OFT begins at zero


@kinds
def test_a_resumed_run_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    def fresh(seed: int = 0) -> Any:
        return pipeline_trainer(DiffusionPolicy(make_pipeline()), adapter_of(name), "a photo of sks dog", seed=seed)

    straight = fresh()
    terms = [result.terms for result in train(straight, 4)]
    first = fresh()
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    second = fresh(9)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    assert all(torch.equal(p, straight.parameters[n]) for n, p in second.parameters.items())
    begun = fresh().parameters
    assert any(not torch.equal(p, begun[n]) for n, p in straight.parameters.items())


@kinds
def test_what_peft_loads_and_what_is_baked_draw_the_same(name: str, tmp_path: Path) -> None:
    trained = make_pipeline()
    policy, adapter = DiffusionPolicy(trained), adapter_of(name)
    disturb(adapter.attach(policy))
    adapter.export(policy, tmp_path)
    full, untouched = draw(trained), draw(make_pipeline())
    assert np.abs(full - untouched).mean() > 1
    by_peft: Any = make_pipeline()
    for part in ("unet", "text_encoder"):
        setattr(by_peft, part, PeftModel.from_pretrained(getattr(by_peft, part), str(tmp_path / part)))
    assert (draw(by_peft) == full).all()
    spec = find_spec(ADAPTERS, name, "adapter")
    assert spec.load is not None
    images = {}
    for strength in (0.0, 0.5, 1.0):
        pipeline = make_pipeline()
        names, rng = weights(pipeline).keys(), torch.get_rng_state()
        spec.load(pipeline, tmp_path, strength)
        assert torch.equal(torch.get_rng_state(), rng)
        assert weights(pipeline).keys() == names
        assert not any(p.requires_grad for p in pipeline.unet.parameters())
        images[strength] = draw(pipeline)
    assert np.abs(images[0.0] - untouched).max() <= 1
    assert np.abs(images[1.0] - full).max() <= 1  # the same sum in another order
    assert min(np.abs(images[0.5] - other).mean() for other in (untouched, full)) > 0.5


@kinds
def test_it_acts_beside_a_lora(name: str, tmp_path: Path) -> None:
    for folder in ("lora", "other"):
        (tmp_path / folder).mkdir()
    lora, policy = LoraAdapter(2, 3.0, True, False, seeded()), DiffusionPolicy(make_pipeline())
    disturb(lora.attach(policy))
    lora.export(policy, tmp_path / "lora")
    other, policy = adapter_of(name), DiffusionPolicy(make_pipeline())
    disturb(other.attach(policy))
    other.export(policy, tmp_path / "other")
    bake = find_spec(ADAPTERS, name, "adapter").load
    assert bake is not None
    first, second = make_pipeline(), make_pipeline()
    load_lora(first, tmp_path / "lora")
    bake(first, tmp_path / "other", 1.0)
    bake(second, tmp_path / "other", 1.0)
    alone = draw(second)
    load_lora(second, tmp_path / "lora")
    assert np.abs(draw(first) - draw(second)).max() <= 1
    assert np.abs(draw(second) - alone).mean() > 0.5


@pytest.mark.parametrize(("name", "rank"), [("loha", 2), ("lokr", 1), ("lokr", 2), ("lokr", 100)])
def test_the_layout_of_lycoris_is_the_same_change(name: str, rank: int, tmp_path: Path) -> None:
    """As its readers compute it: alpha / dim times the product, and without a scale where no factor has a rank."""
    policy, adapter = DiffusionPolicy(make_pipeline()), adapter_of(name, **{"adapter.rank": rank})
    disturb(adapter.attach(policy))
    adapter.export(policy, tmp_path)
    write_lycoris(tmp_path, tmp_path / "file.safetensors", "sks dog", SD)
    tensors = load_file(tmp_path / "file.safetensors")
    layers = {key.partition(".")[0] for key in tensors}
    modules: dict[str, Any] = {
        f"{prefix}{n.replace('.', '_')}": module
        for part, prefix in (("unet", "lora_unet_"), ("text_encoder", "lora_te_text_model_"))
        for n, module in policy.components[part].named_modules()
        if hasattr(module, "base_layer")
    }
    assert {name.replace("lora_te_text_model_text_model_", "lora_te_text_model_") for name in modules} == layers
    for name_of_layer, module in modules.items():
        layer = name_of_layer.replace("lora_te_text_model_text_model_", "lora_te_text_model_")
        of = {key.removeprefix(f"{layer}."): value for key, value in tensors.items() if key.startswith(f"{layer}.")}
        if name == "loha":
            scale = float(of["alpha"]) / len(of["hada_w1_b"])
            change = scale * (of["hada_w1_a"] @ of["hada_w1_b"]) * (of["hada_w2_a"] @ of["hada_w2_b"])
        else:
            factors, dim = [], None
            for w in ("lokr_w1", "lokr_w2"):
                if w in of:
                    factors.append(of[w])
                else:
                    dim = len(of[f"{w}_b"])
                    factors.append(of[f"{w}_a"] @ of[f"{w}_b"])
            change = (1.0 if dim is None else float(of["alpha"]) / dim) * torch.kron(*factors)
        x = torch.eye(module.base_layer.in_features)
        with torch.no_grad():
            expected = (module(x) - module.base_layer(x)).T
        torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-4)


@kinds
def test_what_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    policy, adapter = DiffusionPolicy(make_pipeline()), adapter_of(name)
    disturb(adapter.attach(policy))
    adapter.export(policy, tmp_path)
    bake = find_spec(ADAPTERS, name, "adapter").load
    assert bake is not None
    pipeline = make_pipeline()
    before = weights(pipeline)
    pipeline.unet.mid_block = None
    pipeline.unet.down_blocks = pipeline.unet.down_blocks[1:]
    with raises("export-misfit", tmp_path):
        bake(pipeline, tmp_path, 1.0)
    assert all(torch.equal(value, before[n]) for n, value in weights(pipeline).items() if n.startswith("text"))
    (tmp_path / "unet" / "adapter_model.safetensors").write_bytes(b"no")
    with raises("export-unreadable", tmp_path):
        bake(make_pipeline(), tmp_path, 1.0)
    with raises("export-unreadable", tmp_path / "nothing"):
        bake(make_pipeline(), tmp_path / "nothing", 1.0)


@pytest.mark.parametrize(
    ("values", "fact"),
    [({"adapter.lokr_factor": 1}, "adapter.lokr_factor"), ({"adapter.rank": 0}, "adapter.rank"),
     ({"adapter.oft_block_size": 1}, "adapter.oft_block_size")],
)  # fmt: skip
def test_numbers_out_of_range(values: dict[str, Any], fact: str) -> None:
    with raises("setting-range", fact):
        adapter_of("lokr", **values)


@pytest.mark.parametrize("name", ["lora", "dora", *NAMES])
@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("attn2.to_k, attn2.to_v", {f"unet.{PLACE}.attn2.to_k", f"unet.{PLACE}.attn2.to_v"}),
        ("down_blocks.*.ff.net.2", {f"unet.{PLACE}.ff.net.2"}),
        ("attn1.to_?, fc1", {f"unet.{PLACE}.attn1.to_k", f"unet.{PLACE}.attn1.to_q", f"unet.{PLACE}.attn1.to_v"}),
    ],
)
def test_the_layers_are_those_that_fit(name: str, patterns: str, expected: set[str], tmp_path: Path) -> None:
    export = make_export(
        tmp_path / "export", _model(tmp_path), name, **{"adapter.layers": patterns, "adapter.train_text_encoder": True}
    )
    files = sorted(export.rglob("*.safetensors"))
    keys = {f"{file.parent.name}.{k}" if name in NAMES else k for file in files for k in load_file(file)}
    layers = {key.replace("base_model.model.", "") for key in keys}
    here = {layer for layer in layers if layer.startswith(f"unet.{PLACE}.")}
    assert {layer for layer in expected if any(one.startswith(f"{layer}.") for one in here)} == expected
    assert all(any(one.startswith(f"{layer}.") for layer in expected) for one in here)
    assert any(".fc1." in layer for layer in layers) == ("fc1" in patterns)
    # The same model comes of the export, in a pipeline that did not train it
    pipeline = make_pipeline()
    before = draw(pipeline)
    apply_export(pipeline, export)
    assert np.abs(draw(pipeline) - before).mean() > 0.01


def _model(folder: Path) -> Path:
    make_pipeline().save_pretrained(folder / "model")
    return folder / "model"


def test_a_lora_on_other_layers_is_what_was_trained(tmp_path: Path) -> None:
    adapter = LoraAdapter(2, 3.0, True, False, seeded(), "ff.net.2, attn2.to_k, fc1, q_proj")
    policy = DiffusionPolicy(make_pipeline())
    disturb(adapter.attach(policy))
    adapter.export(policy, tmp_path)
    pipeline = make_pipeline()
    pipeline.load_lora_weights(str(tmp_path))  # diffusers alone
    assert (draw(pipeline) == draw(policy.pipeline)).all()


def test_layers_that_are_not_there_are_named() -> None:
    with raises("adapter-layers", "to_w", "to_q"):
        LoraAdapter(2, 3.0, False, False, seeded(), "to_w").attach(DiffusionPolicy(make_pipeline()))


@kinds
def test_a_whole_run(name: str, tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"model.name": str(tiny_model), **SETTINGS, "adapter.name": name, "objective.preservation": "output"}
    result = personalize(photos, "teapot", output=tmp_path / "run", settings=settings)
    settings_file = json.loads((tmp_path / "run" / "export" / "unet" / "adapter_config.json").read_text())
    assert settings_file["peft_type"] == name.upper()
    assert len(result.generate("a photo of sks teapot")) == 1


@kinds
def test_it_fits_stable_diffusion_xl_too(name: str, tmp_path: Path) -> None:
    policy, adapter = DiffusionPolicy(make_sdxl()), adapter_of(name)
    parameters = adapter.attach(policy)
    assert {n.partition(".")[0] for n in parameters} == {"unet", "text_encoder", "text_encoder_2"}
    disturb(parameters)
    adapter.export(policy, tmp_path)

    def act(policy: DiffusionPolicy) -> Tensor:
        words = policy.encode_prompts(["a photo of a dog"])
        with torch.no_grad():
            return policy.act(State(torch.randn(1, 4, 8, 8, generator=seeded()), torch.tensor([500]), words))

    plain = DiffusionPolicy(make_sdxl())
    before = act(plain)
    bake = find_spec(ADAPTERS, name, "adapter").load
    assert bake is not None
    bake(plain.pipeline, tmp_path, 1.0)
    torch.testing.assert_close(act(plain), act(policy), atol=1e-4, rtol=1e-3)
    assert (act(plain) - before).abs().max() > 1e-2
