"""A whole model as one file: diffusers reads it back, offline, and draws the same images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel

from conftest import NO_SAFETY_CHECKER, make_pipeline
from errors import raises
from exports import make_export
from jobs import Command
from lookforward.exports.card import CARD
from lookforward.exports.convert import convert
from lookforward.exports.load import load_export
from lookforward.exports.source import find_source
from lookforward.models.families import FAMILIES
from lookforward.models.families.single_file import assumptions, require_layout, write_checkpoint
from lookforward.models.sampling import draw_images
from tiny_sdxl import make_sdxl

PROMPT = "a photo of a red dog in the snow"


def drawn(pipeline: Any, prompt: str = PROMPT) -> np.ndarray:
    return draw_images(pipeline, [prompt], [3], steps=2, guidance=3.0)[0].astype(int)


def read_back(kind: Any, file: Path, config: Path, **more: Any) -> Any:
    pipeline = kind.from_single_file(str(file), config=str(config), local_files_only=True, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_open_clip(pipeline: Any, name: str) -> Any:
    """The pipeline with a text encoder of OpenCLIP's activation."""
    config = getattr(pipeline, name).config
    config.hidden_act = "gelu"
    encoder = type(getattr(pipeline, name))(config).requires_grad_(False).eval()
    setattr(pipeline, name, encoder)
    return pipeline


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_stable_diffusion_1(prediction: str, tmp_path: Path) -> None:
    pipeline = make_pipeline(prediction=prediction)
    pipeline.save_pretrained(tmp_path / "folder")
    write_checkpoint(pipeline, tmp_path / "dog.safetensors", "sks dog")
    names = load_file(tmp_path / "dog.safetensors").keys()
    assert {
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.input_blocks.2.0.op.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "model.diffusion_model.output_blocks.1.1.conv.weight",
        "model.diffusion_model.out.2.bias",
        "first_stage_model.encoder.down.0.block.0.norm1.weight",
        "first_stage_model.decoder.up.2.upsample.conv.weight",
        "first_stage_model.decoder.mid.attn_1.q.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
    } <= names
    count = sum(len(m.state_dict()) for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder))
    assert len(names) == count
    with safe_open(tmp_path / "dog.safetensors", "pt") as file:
        assert file.metadata()["modelspec.trigger_phrase"] == "sks dog"
    back = read_back(StableDiffusionPipeline, tmp_path / "dog.safetensors", tmp_path / "folder", **NO_SAFETY_CHECKER)
    assert np.array_equal(drawn(back), drawn(pipeline))


def test_stable_diffusion_2(tmp_path: Path) -> None:
    pipeline = with_open_clip(make_pipeline(), "text_encoder")
    pipeline.save_pretrained(tmp_path / "folder")
    write_checkpoint(pipeline, tmp_path / "dog.safetensors")
    names = load_file(tmp_path / "dog.safetensors").keys()
    joined = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    assert {joined, "cond_stage_model.model.token_embedding.weight", "cond_stage_model.model.ln_final.bias"} <= names
    back = read_back(StableDiffusionPipeline, tmp_path / "dog.safetensors", tmp_path / "folder", **NO_SAFETY_CHECKER)
    assert isinstance(back.text_encoder, CLIPTextModel)
    assert np.array_equal(drawn(back), drawn(pipeline))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_stable_diffusion_xl(prediction: str, tmp_path: Path) -> None:
    pipeline = with_open_clip(make_sdxl(prediction), "text_encoder_2")
    pipeline.save_pretrained(tmp_path / "folder")
    write_checkpoint(pipeline, tmp_path / "dog.safetensors")
    tensors = load_file(tmp_path / "dog.safetensors")
    assert ("v_pred" in tensors) == (prediction == "v_prediction")
    projection = tensors["conditioner.embedders.1.model.text_projection"]
    assert torch.equal(projection, pipeline.text_encoder_2.text_projection.weight.T)
    back = read_back(
        StableDiffusionXLPipeline, tmp_path / "dog.safetensors", tmp_path / "folder", add_watermarker=False
    )
    assert np.array_equal(drawn(back), drawn(pipeline))


def test_what_readers_take_for_granted_is_named() -> None:
    pipeline = make_pipeline(prediction="v_prediction")
    notes = "\n".join(assumptions(pipeline))
    assert all(fact in notes for fact in ("49408", "0.18215", "0.7", "predicts v"))
    real = make_pipeline()
    real.vae.register_to_config(scaling_factor=0.18215)
    assert not any("latents" in note or "noise levels" in note for note in assumptions(real))
    real.scheduler.register_to_config(beta_end=0.02)
    assert any("beta_end 0.02" in note for note in assumptions(real))


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.name not in ("sd", "sdxl")])
def test_other_families_are_refused(family: Any) -> None:
    with raises("format-family", family.label, "merged"):
        require_layout(family)


def test_weights_without_a_place_are_refused(tmp_path: Path) -> None:
    pipeline = make_sdxl(time_cond_proj_dim=8)
    with raises("format-model", "cond_proj"):
        write_checkpoint(pipeline, tmp_path / "dog.safetensors")


@pytest.mark.parametrize("adapter", ["full", "lora", "textual-inversion"])
def test_the_command(adapter: str, command_line: Command, tiny_model: Path, tmp_path: Path) -> None:
    words: dict[str, Any] = {"subject.identifier": "<sks>"} if adapter == "textual-inversion" else {}
    export = make_export(tmp_path / adapter, tiny_model, adapter, **words)
    status, out, err = command_line("export", export, "--format", "checkpoint", "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "49408" in out
    file = tmp_path / "out" / f"{adapter}.safetensors"
    config = tiny_model if adapter != "full" else export
    back = read_back(StableDiffusionPipeline, file, config, **NO_SAFETY_CHECKER)
    prompt = PROMPT
    if words:
        back.load_textual_inversion(tmp_path / "out" / "sks.safetensors", token="<sks>")
        prompt = "a photo of <sks> in the snow"
    assert np.abs(drawn(back, prompt) - drawn(load_export(export, "cpu"), prompt)).max() <= 1
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    assert all(fact in card for fact in ("CheckpointLoaderSimple", f"{adapter}.safetensors", "49408"))
    assert ("embedding:NAME" in card) == bool(words)


def test_a_strength_and_words_that_were_merged_in(tiny_model: Path, tmp_path: Path) -> None:
    lora = find_source(str(make_export(tmp_path / "lora", tiny_model, "lora")))
    convert(lora, "checkpoint", tmp_path / "none", 0.0)
    plain = make_pipeline()
    write_checkpoint(plain, tmp_path / "plain.safetensors")
    expected = load_file(tmp_path / "plain.safetensors")
    assert all(
        torch.allclose(tensor, expected[name], atol=1e-6)
        for name, tensor in load_file(tmp_path / "none" / "lora.safetensors").items()
    )
    named: dict[str, Any] = {"subject.identifier": "<sks>"}
    words = make_export(tmp_path / "words", tiny_model, "textual-inversion", **named)
    convert(find_source(str(words)), "merged", tmp_path / "merged")
    with raises("format-model", "learned word"):
        convert(find_source(str(tmp_path / "merged")), "checkpoint", tmp_path / "out")
