"""The LoRA files of each family: names and shapes as ComfyUI's key maps list them, and diffusers' reading of them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import make_pipeline
from errors import raises
from lookforward.adapters.comfyui import require_kohya, to_comfyui, write_comfyui
from lookforward.adapters.lora import WEIGHTS, LoraAdapter, merge_lora
from lookforward.models.families import FAMILIES
from lookforward.models.families.flux import FLUX
from lookforward.models.families.flux2 import FLUX2_DEV, FLUX2_KLEIN
from lookforward.models.families.qwen_image import QWEN_IMAGE
from lookforward.models.families.sd import SD
from lookforward.models.families.sd3 import SD3
from lookforward.models.families.sdxl import SDXL
from lookforward.models.families.z_image import Z_IMAGE
from lookforward.models.policy import DiffusionPolicy
from tiny import seeded
from tiny_flux import make_flux
from tiny_flux2 import make_dev, make_klein
from tiny_qwen import make_qwen_image, make_z_image
from tiny_sd3 import make_sd3
from tiny_sdxl import make_sdxl

Layers = Iterator[tuple[str, int, int]]  # name, widths of what goes in and out
RANK, ALPHA = 2, 3.0


def clip(prefix: str, width: int, between: str) -> Layers:
    """Both layers of a tiny CLIP."""
    for layer in range(2):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            name = between.join(["text_model", "encoder", "layers", str(layer), "self_attn", projection])
            yield prefix + name, width, width


def sdxl() -> Layers:
    for place in ("down_blocks_1_attentions_0", "mid_block_attentions_0", "up_blocks_0_attentions_0",
                  "up_blocks_0_attentions_1"):  # fmt: skip
        for block in range(2):
            for attention, words in (("attn1", 16), ("attn2", 40)):
                name = f"lora_unet_{place}_transformer_blocks_{block}_{attention}"
                yield from ((f"{name}_to_q", 16, 16), (f"{name}_to_out_0", 16, 16))
                yield from ((f"{name}_to_k", words, 16), (f"{name}_to_v", words, 16))
    yield from clip("lora_te1_", 16, "_")
    yield from clip("lora_te2_", 24, "_")


def joint(prefix: str, width: int, of_text: tuple[str, ...]) -> Layers:
    for projection in ("to_q", "to_k", "to_v", "to_out.0", *of_text):
        yield f"{prefix}.attn.{projection}", width, width


def sd3() -> Layers:
    of_text = ("add_q_proj", "add_k_proj", "add_v_proj")
    yield from joint("transformer.transformer_blocks.0", 16, (*of_text, "to_add_out"))
    yield from joint("transformer.transformer_blocks.1", 16, of_text)  # the last, whose words go no further
    yield from clip("text_encoder.", 16, ".")
    yield from clip("text_encoder_2.", 16, ".")


def flux() -> Layers:
    block = "transformer.transformer_blocks.0"
    yield from joint(block, 32, ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"))
    for stream in ("ff", "ff_context"):
        yield f"{block}.{stream}.net.0.proj", 32, 128
        yield f"{block}.{stream}.net.2", 128, 32
    for projection in ("to_q", "to_k", "to_v"):
        yield f"transformer.single_transformer_blocks.0.attn.{projection}", 32, 32
    yield from clip("text_encoder.", 16, ".")


def flux2() -> Layers:
    yield from joint("transformer.transformer_blocks.0", 32, ())
    for block in range(2):
        name = f"transformer.single_transformer_blocks.{block}.attn"
        yield f"{name}.to_qkv_mlp_proj", 32, 3 * 32 + 2 * 96  # gate and value of the MLP
        yield f"{name}.to_out", 32 + 96, 32


def z_image() -> Layers:
    for block in ("layers.0", "layers.1", "noise_refiner.0", "context_refiner.0"):
        for projection in ("to_q", "to_k", "to_v", "to_out.0"):
            yield f"diffusion_model.{block}.attention.{projection}", 16, 16


def qwen_image() -> Layers:
    yield from joint("diffusion_model.transformer_blocks.0", 16, ())
    yield from joint("diffusion_model.transformer_blocks.1", 16, ())


@dataclass(frozen=True)
class Case:
    family: Any
    make: Callable[[], Any]
    layers: Callable[[], Layers]
    text: bool = True  # whether text encoders can have a LoRA

    def wanted(self, dora: bool = False) -> dict[str, tuple[int, ...]]:
        """All names in the file, and their shapes."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, width_in, width_out in self.layers():
            down, up = "lora_A", "lora_B"
            if name.startswith("lora_"):
                down, up = "lora_down", "lora_up"
                shapes[f"{name}.alpha"] = ()
            elif name.startswith("text_encoder"):
                down, up = "lora_linear_layer.down", "lora_linear_layer.up"
            shapes |= {f"{name}.{down}.weight": (RANK, width_in), f"{name}.{up}.weight": (width_out, RANK)}
            shapes |= {f"{name}.dora_scale": (width_out, 1)} if dora else {}
        return shapes


CASES = [
    Case(SDXL, make_sdxl, sdxl),
    Case(SD3, make_sd3, sd3),
    Case(FLUX, make_flux, flux),
    Case(FLUX2_KLEIN, make_klein, flux2, text=False),
    Case(FLUX2_DEV, make_dev, flux2, text=False),
    Case(Z_IMAGE, make_z_image, z_image, text=False),
    Case(QWEN_IMAGE, make_qwen_image, qwen_image, text=False),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.family.name)


def trained(case: Case, folder: Path, dora: bool = False, layers: str = "", size: float = 0.5) -> Any:
    """A pipeline with a LoRA that changes what it draws, which is exported to `folder`."""
    pipeline = case.make()
    policy, adapter = DiffusionPolicy(pipeline), LoraAdapter(RANK, ALPHA, case.text, dora, seeded(), layers)
    with torch.no_grad():
        for _, parameter in sorted(adapter.attach(policy).items()):
            parameter += size * torch.randn(parameter.shape, generator=seeded(1))
    adapter.export(policy, folder)
    return pipeline


def draw(pipeline: Any) -> np.ndarray:
    given: dict[str, Any] = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "np"}
    return pipeline(prompt="a photo of a red dog", generator=seeded(1), **given).images[0] * 255


def test_each_family_has_a_layout() -> None:
    covered = {case.family.name for case in CASES} | {"sd"}  # whose names tests/test_adapters_lora.py lists
    assert {family.name for family in FAMILIES if family.comfyui} == covered
    for family in FAMILIES:
        assert set(family.comfyui) == set(family.lora_targets)


@cases
def test_names_and_shapes_are_those_that_comfyui_lists_and_diffusers_draws_the_same(case: Case, tmp_path: Path) -> None:
    ours = draw(trained(case, tmp_path))
    write_comfyui(tmp_path, tmp_path / "out" / "dog.safetensors", "sks dog", case.family)
    file = load_file(tmp_path / "out" / "dog.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in file.items()} == case.wanted()
    for path in (tmp_path / WEIGHTS, tmp_path / "out" / "dog.safetensors"):  # diffusers' own layout, and ComfyUI's
        plain = case.make()
        before = draw(plain)
        plain.load_lora_weights(str(path.parent), weight_name=path.name)
        assert np.abs(draw(plain) - ours).max() < 0.1
        assert np.abs(before - ours).mean() > 1
    with safe_open(tmp_path / "out" / "dog.safetensors", "pt") as opened:
        said = opened.metadata()
    assert said["ss_network_dim"] == "2"
    assert said["ss_network_alpha"] == "2.0"  # alpha is within the matrices, as in the export
    assert said["modelspec.trigger_phrase"] == "sks dog"
    with safe_open(tmp_path / WEIGHTS, "pt") as opened:
        own = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert {own[f"{case.family.denoiser}.{name}"] for name in ("r", "lora_alpha")} == {RANK}


@cases
def test_a_lora_on_every_layer_is_merged_and_its_files_have_the_same_change(case: Case, tmp_path: Path) -> None:
    """The pooled vector's projection among them, and `norm_out`, whose halves ComfyUI exchanges as it reads them."""
    ours = draw(trained(case, tmp_path, layers="*", size=0.1))
    merged, plain = case.make(), case.make()
    merge_lora(merged, tmp_path)
    plain.load_lora_weights(str(tmp_path), weight_name=WEIGHTS)
    assert np.abs(draw(merged) - ours).max() < 0.1
    assert np.abs(draw(plain) - ours).max() < 0.1
    write_comfyui(tmp_path, tmp_path / "out.safetensors", "", case.family)
    file, before, checked = load_file(tmp_path / "out.safetensors"), case.make(), set[str]()
    for part, prefix in case.family.comfyui.items():
        weights = {name: layer.weight for name, layer in getattr(before, part).named_modules() if is_linear(layer)}
        for name, layer in getattr(merged, part).named_modules():
            if not is_linear(layer):
                continue
            down, up = (file[key] for key in keys_of(file, part, prefix, name, case.family))
            torch.testing.assert_close(layer.weight - weights[name], up @ down, rtol=1e-4, atol=1e-5)
            checked.add(name.rpartition(".")[2] if "norm_out" not in name else "norm_out")
    assert len(checked) > 3
    assert ("text_projection" in checked) == (case.family in (SDXL, SD3))
    assert ("norm_out" in checked) == (case.family not in (SDXL, Z_IMAGE))


def is_linear(layer: Any) -> bool:
    return isinstance(layer, torch.nn.Linear)


def keys_of(file: dict[str, Any], part: str, prefix: str, name: str, family: Any) -> tuple[str, str]:
    """The names of both matrices of a layer in ComfyUI's file."""
    if name == "text_projection":  # in ComfyUI's key map under this name alone, for both families that have it
        number = {"text_encoder": 1, "text_encoder_2": 2}[part]
        return f"lora_te{number}_{name}.lora_down.weight", f"lora_te{number}_{name}.lora_up.weight"
    if part in family.text_encoders:
        name = f"text_model.{name.removeprefix('text_model.')}"
    if prefix.endswith("_"):
        name = prefix + name.replace(".", "_")
        return f"{name}.lora_down.weight", f"{name}.lora_up.weight"
    ways = ("lora_linear_layer.down", "lora_linear_layer.up"), ("lora_A", "lora_B")
    down, up = next(way for way in ways if f"{prefix}{name}.{way[0]}.weight" in file)
    return f"{prefix}{name}.{down}.weight", f"{prefix}{name}.{up}.weight"


@cases
def test_a_doras_magnitudes_have_the_name_and_shape_that_comfyui_reads(case: Case, tmp_path: Path) -> None:
    trained(case, tmp_path, dora=True)
    write_comfyui(tmp_path, tmp_path / "dog.safetensors", "", case.family)
    file = load_file(tmp_path / "dog.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in file.items()} == case.wanted(dora=True)
    with safe_open(tmp_path / "dog.safetensors", "pt") as opened:
        assert "modelspec.trigger_phrase" not in opened.metadata()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_flow_families_have_no_kohya_layout(family: Any) -> None:
    if family in (SD, SDXL):
        require_kohya(family)
    else:
        with raises("format-family", family.label, "--format comfyui"):
            require_kohya(family)


def test_an_alpha_that_an_earlier_export_has_beside_its_matrices_counts() -> None:
    up, down = torch.ones(4, RANK), torch.ones(RANK, 4)
    layers = {"attn.to_q.lora_A.weight": down, "attn.to_q.lora_B.weight": up}
    flow = to_comfyui({f"transformer.{name}": t for name, t in layers.items()}, {"transformer": ALPHA}, FLUX)
    assert torch.equal(flow["transformer.attn.to_q.lora_B.weight"], up * ALPHA / RANK)
    assert torch.equal(flow["transformer.attn.to_q.lora_A.weight"], down)
    stable = to_comfyui({f"unet.{name}": t for name, t in layers.items()}, {"unet": ALPHA}, SDXL)
    assert stable["lora_unet_attn_to_q.alpha"] == ALPHA
    assert torch.equal(stable["lora_unet_attn_to_q.lora_up.weight"], up)


def test_layers_of_another_family_or_kind_are_refused(tmp_path: Path) -> None:
    trained(Case(SD, make_pipeline, sdxl), tmp_path)
    with raises("format-family", "text_encoder.text_model", "Qwen-Image", "merged"):
        write_comfyui(tmp_path, tmp_path / "dog.safetensors", "", QWEN_IMAGE)
    with raises("format-family", "hada_w1_a", "Z-Image"):
        to_comfyui({"transformer.layers.0.attention.to_q.hada_w1_a": torch.zeros(2, 2)}, {}, Z_IMAGE)
