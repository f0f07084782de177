"""Learned words of models with two CLIP encoders: an embedding in each, trained together, written to one file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from documented import draw_elsewhere, replace
from errors import raises
from families import SUBJECT, run_in_parts
from lookforward.adapters.lora import LoraAdapter
from lookforward.adapters.pivotal import PivotalAdapter, merge_pivotal
from lookforward.adapters.textual_inversion import TextualInversionAdapter, load_words
from lookforward.adapters.words import Word, add_words
from lookforward.assembly.placement import frozen_parts
from lookforward.cli.export import merge
from lookforward.config.recipe import load_settings
from lookforward.exports.card import CARD, loading_code
from lookforward.exports.convert import convert
from lookforward.exports.load import load_export, read_manifest
from lookforward.exports.source import find_source
from lookforward.models.families.sd3 import SD3
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from test_family_sd3 import make_sd3
from tiny import seeded
from tiny_sdxl import make_sdxl

MAKE: dict[str, Callable[[], Any]] = {"sdxl": make_sdxl, "sd3": make_sd3}
WIDTHS = {"sdxl": {"clip_l": 16, "clip_g": 24}, "sd3": {"clip_l": 16, "clip_g": 16}}
WORD = Word("<sks>", "dog", 2)
PROMPT = "a photo of <sks> on the beach"
families = pytest.mark.parametrize("family", MAKE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pipeline folder of each family."""
    folder = tmp_path_factory.mktemp("models")
    for name, make in MAKE.items():
        make().save_pretrained(folder / name, safe_serialization=True)
    return {name: folder / name for name in MAKE}


@pytest.fixture(scope="module")
def trained(
    models: dict[str, Path], photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[Path, np.ndarray]]:
    """The export and an image of runs that were interrupted and went on to the same bits, by family and adapter."""
    runs = {}
    for family, model in models.items():
        for adapter in ("textual-inversion", "pivotal"):
            folder = tmp_path_factory.mktemp("runs")
            # A high rate: without one, four steps hardly show in an image of a random model
            rate = "optimizer.learning_rate" if adapter == "textual-inversion" else "optimizer.word_learning_rate"
            settings = {"adapter.name": adapter, "adapter.vectors": 2, rate: 1.0}
            drawn = run_in_parts(photos, model, folder, "look-forward", **settings)
            runs[family, adapter] = folder / "whole" / "export", drawn
    return runs


def prompt_of(adapter: str) -> str:
    return SUBJECT.replace("sks teapot", "<sks>" if adapter == "textual-inversion" else "<sks> teapot")


def draw(pipeline: Any, prompt: str = PROMPT, guidance: float = 3.0) -> np.ndarray:
    return draw_images(pipeline, [prompt], [1], steps=3, guidance=guidance, resolution=32)[0].astype(int)


def moved(family: str, adapter: Any, folder: Path) -> Any:
    """A pipeline whose adapter's parameters have moved, which is exported to a folder."""
    pipeline = MAKE[family]()
    policy = DiffusionPolicy(pipeline)
    with torch.no_grad():
        for seed, (_, parameter) in enumerate(sorted(adapter.attach(policy).items())):
            parameter += 0.5 * torch.randn(parameter.shape, generator=seeded(seed))
    folder.mkdir()
    adapter.export(policy, folder)
    return pipeline


def test_plain_diffusers_draws_the_same_with_the_lines_of_the_card(
    trained: dict[tuple[str, str], tuple[Path, np.ndarray]], models: dict[str, Path], tmp_path: Path
) -> None:
    scripts = []
    for (family, adapter), (export, _) in trained.items():
        manifest = read_manifest(export)
        script = "\n".join(loading_code(manifest, prompt_of(adapter), 1))
        beside = "\n".join(loading_code(manifest, prompt_of(adapter).replace("on the beach", "in the snow"), 1))
        shown = (export / CARD).read_text(encoding="utf-8")
        assert [line for line in beside.splitlines() if "prompt=" not in line and line not in shown] == []
        script = script.replace("FOLDER", str(export))
        scripts.append(replace(script, {f'"{family}"': repr(str(models[family]))}))
    drawn = draw_elsewhere(scripts, tmp_path)
    for theirs, ((family, adapter), (_, ours)) in zip(drawn, trained.items(), strict=True):
        assert np.abs(theirs - ours).max() <= 1, (family, adapter)
        plain = build_pipeline(str(models[family]), "cpu")
        guidance = read_manifest(trained[family, adapter][0])["guidance"]
        assert np.abs(draw(plain, prompt_of(adapter), guidance) - ours).max() > 3, (family, adapter)


def test_both_encoders_learn_the_word_and_it_is_one_file(
    trained: dict[tuple[str, str], tuple[Path, np.ndarray]], tmp_path: Path
) -> None:
    for (family, adapter), (export, _) in trained.items():
        path = export / "learned_embeds.safetensors"
        vectors = load_file(path)
        assert {name: tuple(rows.shape) for name, rows in vectors.items()} == {
            name: (2, width) for name, width in WIDTHS[family].items()
        }
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt", "identifier": "<sks>", "initial_word": "teapot"}
        begun = add_words(MAKE[family](), [Word("<sks>", "teapot", 2)]).named_rows()
        assert begun.keys() == {"word.<sks>.clip_l", "word.<sks>.clip_g"}
        for name, rows in vectors.items():
            assert (rows != begun[f"word.<sks>.{name}"]).all()
        # ComfyUI and A1111 call an embedding by its file's name, and look for the two tensors
        layout = "a1111" if adapter == "textual-inversion" else "comfyui"
        folder = tmp_path / f"{family}-{adapter}"
        convert(find_source(export.parent), layout, folder)
        for_others = load_file(folder / "sks.safetensors")
        assert for_others.keys() == vectors.keys()
        assert all(torch.equal(for_others[name], rows) for name, rows in vectors.items())


def test_a_merged_model_draws_what_the_adapter_draws(
    trained: dict[tuple[str, str], tuple[Path, np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for (family, adapter), (export, _) in trained.items():
        if (family, adapter) in (("sdxl", "pivotal"), ("sd3", "textual-inversion")):
            merge((str(export),), tmp_path / family)
            kind = {"sdxl": "StableDiffusionXLPipeline", "sd3": "StableDiffusion3Pipeline"}[family]
            assert f"{kind}.from_pretrained(" in capsys.readouterr().out
            prompt = prompt_of(adapter)
            one, other = load_export(export, "cpu"), build_pipeline(str(tmp_path / family), "cpu")
            assert np.abs(draw(one, prompt) - draw(other, prompt)).max() <= 1


@families
def test_a_word_begins_as_its_initial_word_and_strength_leads_back_to_it(family: str, tmp_path: Path) -> None:
    pipeline = MAKE[family]()
    policy = DiffusionPolicy(pipeline)
    before = policy.encode_prompts(["a photo of dog dog on the beach"])
    tokenizers = pipeline.tokenizer, pipeline.tokenizer_2
    adapter = TextualInversionAdapter((WORD,))
    parameters = adapter.attach(policy)
    begun = policy.encode_prompts([PROMPT])
    words = slice(None) if family == "sdxl" else slice(None, pipeline.tokenizer_max_length)  # T5 reads "<sks>" itself
    torch.testing.assert_close(begun.tokens[:, words], before.tokens[:, words])
    torch.testing.assert_close(begun.pooled, before.pooled)
    assert {id(p) for m in policy.components.values() for p in m.parameters() if p.requires_grad} == {
        id(p) for p in parameters.values()
    }
    with torch.no_grad():
        parameters["word.<sks>.clip_g"].add_(1)
    after = policy.encode_prompts([PROMPT])
    width = 16  # of the first encoder, whose numbers come first
    assert torch.equal(after.tokens[:, words, :width], begun.tokens[:, words, :width])
    assert not torch.equal(after.tokens[:, words, width:], begun.tokens[:, words, width:])
    assert after.pooled is not None
    assert begun.pooled is not None
    assert not torch.equal(after.pooled, begun.pooled)
    adapter.detach(policy)
    assert (pipeline.tokenizer, pipeline.tokenizer_2) == tokenizers

    moved(family, adapter, tmp_path / "export")
    loaded = MAKE[family]()
    load_words(loaded, tmp_path / "export", 0.0)
    again = DiffusionPolicy(loaded).encode_prompts([PROMPT])
    torch.testing.assert_close(again.tokens[:, words], before.tokens[:, words])
    with raises("identifier-known", "<sks>"):
        load_words(loaded, tmp_path / "export")


@families
def test_word_and_lora_go_into_the_weights(family: str, tmp_path: Path) -> None:
    adapter = PivotalAdapter((WORD,), LoraAdapter(2, 3.0, True, False, seeded()))
    ours = draw(moved(family, adapter, tmp_path / "export"))
    merged = MAKE[family]()
    merge_pivotal(merged, tmp_path / "export")
    assert np.abs(draw(merged) - ours).max() <= 1
    assert np.abs(draw(MAKE[family]()) - ours).max() > 5


def test_an_encoder_that_learns_no_word_may_be_in_low_precision(models: dict[str, Path]) -> None:
    given = {"model.name": str(models["sd3"]), "adapter.name": "textual-inversion", "model.weights": "bf16"}
    settings = load_settings("look-forward", given)
    assert frozen_parts(settings, SD3) == {"transformer", "text_encoder_3"}


def test_the_pooled_vector_of_an_older_configuration_is_that_of_plain_diffusers(tmp_path: Path) -> None:
    """Stable Diffusion XL's own configuration calls token 2 the end: the token of the highest number is pooled."""

    def make() -> Any:
        pipeline = make_sdxl()
        pipeline.text_encoder_2.text_model.eos_token_id = 2
        return pipeline

    pipeline = make()
    TextualInversionAdapter((WORD,)).attach(policy := DiffusionPolicy(pipeline))
    TextualInversionAdapter((WORD,)).export(policy, tmp_path)
    plain, vectors = make(), load_file(tmp_path / "learned_embeds.safetensors")
    plain.load_textual_inversion(vectors["clip_l"], token="<sks>")
    second: Any = {"text_encoder": plain.text_encoder_2, "tokenizer": plain.tokenizer_2}
    plain.load_textual_inversion(vectors["clip_g"], token="<sks>", **second)
    ours, theirs = (DiffusionPolicy(one).encode_prompts([PROMPT]) for one in (pipeline, plain))
    assert ours.pooled is not None
    assert theirs.pooled is not None
    assert torch.equal(ours.pooled, theirs.pooled)
    assert torch.equal(ours.tokens, theirs.tokens)


def test_files_of_other_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "learned_embeds.safetensors"
    save_file({"<sks>": torch.ones(1, 16)}, path)  # of a model with one encoder
    with raises("export-misfit", "learned_embeds.safetensors", "identifier"):
        load_words(make_sdxl(), tmp_path)
    vectors = {"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 16)}
    save_file(vectors, path, {"identifier": "<sks>"})
    pipeline = make_sdxl()
    with raises("export-misfit", 16, 24):
        load_words(pipeline, tmp_path)
    assert "<sks>" not in pipeline.tokenizer.get_vocab()  # nor in the first encoder, which it would fit
    load_words(make_sd3(), tmp_path)
    save_file(vectors | {"clip_g": torch.ones(2, 24)}, path, {"identifier": "<sks>"})
    with raises("export-unreadable", "learned_embeds.safetensors"):
        load_words(make_sdxl(), tmp_path)


def test_an_error_leaves_both_tokenizers_as_they_were() -> None:
    pipeline = make_sdxl()
    pipeline.tokenizer_2.add_tokens(["<sks>"])
    before = pipeline.tokenizer, pipeline.tokenizer_2, pipeline.text_encoder.get_input_embeddings()
    with raises("identifier-known", "<sks>"):
        add_words(pipeline, [WORD])
    assert (pipeline.tokenizer, pipeline.tokenizer_2, pipeline.text_encoder.get_input_embeddings()) == before
