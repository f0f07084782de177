"""A learned word: in the tokenizer and the text encoder while it is learned, out of them without a trace, in a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from conftest import make_pipeline
from documented import PAGES, draw_elsewhere, page_script, replace
from errors import raises
from lookforward.adapters.textual_inversion import TextualInversionAdapter, load_words
from lookforward.adapters.words import Word, add_words, remove_words
from lookforward.algorithm.trainer import Trainer, train
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import pipeline_trainer, seeded

PROMPT = "a photo of <sks> on the beach"
BOTH = "a photo of <sks> and <new1>"
WORDS = (Word("<sks>", "dog", 3), Word("<new1>", "red vase"))


@pytest.fixture
def policy() -> DiffusionPolicy:
    return DiffusionPolicy(make_pipeline())


def word_trainer(policy: DiffusionPolicy, adapter: TextualInversionAdapter, seed: int = 0) -> Trainer:
    return pipeline_trainer(policy, adapter, PROMPT, seed=seed, rate=0.1)


def weights(pipeline: StableDiffusionPipeline) -> dict[str, Tensor]:
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    return {f"{part}.{name}": p.clone() for part, module in parts.items() for name, p in module.state_dict().items()}


def test_a_word_begins_as_its_initial_word(policy: DiffusionPolicy) -> None:
    before = policy.encode_prompts(["a photo of dog", "a photo of vase"]).tokens
    table = policy.pipeline.text_encoder.get_input_embeddings().weight
    red, vase = (table[policy.count_tokens(word)[0]] for word in ("red", "vase"))
    rows = add_words(policy.pipeline, [Word("<sks>", "dog"), WORDS[1]]).named_rows()
    assert torch.equal(policy.encode_prompts(["a photo of <sks>"]).tokens, before[:1])
    assert torch.equal(rows["word.<new1>"], (red + vase)[None] / 2)
    assert torch.equal(policy.encode_prompts(["a photo of dog", "a photo of vase"]).tokens, before)


def test_a_word_of_several_vectors_is_expanded_as_the_pipeline_does(policy: DiffusionPolicy) -> None:
    first = len(policy.pipeline.tokenizer)
    rows = add_words(policy.pipeline, WORDS).named_rows()
    prompts = ["a photo of <sks> on the beach", "a <new1>, <sks>"]
    converted = policy.pipeline.maybe_convert_prompt(prompts, policy.pipeline.tokenizer)
    assert converted == ["a photo of <sks> <sks>_1 <sks>_2 on the beach", "a <new1>, <sks> <sks>_1 <sks>_2"]
    assert torch.equal(
        policy.encode_prompts(prompts).tokens, policy.pipeline.encode_prompt(prompts, "cpu", 1, False)[0]
    )
    assert policy.pipeline.tokenizer("<sks> <sks>_1 <sks>_2 <new1>", add_special_tokens=False).input_ids == [
        first, first + 1, first + 2, first + 3,
    ]  # fmt: skip
    with torch.no_grad():
        before = policy.encode_prompts(prompts[:1]).tokens
        for row in range(3):
            rows["word.<sks>"][row] += 1
            after = policy.encode_prompts(prompts[:1]).tokens
            assert not torch.equal(before, after)  # each vector has its part in it
            before = after


def test_only_the_rows_learn_and_a_prompt_teaches_only_its_words(policy: DiffusionPolicy) -> None:
    before = weights(policy.pipeline)
    trainer = word_trainer(policy, TextualInversionAdapter(WORDS))
    assert {name: tuple(p.shape) for name, p in trainer.parameters.items()} == {
        "word.<sks>": (3, 16), "word.<new1>": (1, 16),
    }  # fmt: skip
    start = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    losses = [result.terms["loss"] for result in train(trainer, 3)]
    assert all(np.isfinite(losses))
    moved = (trainer.parameters["word.<sks>"] != start["word.<sks>"]).all(dim=1)
    assert moved.all()
    trained = [p for module in policy.components.values() for p in module.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in trainer.parameters.values()}
    # No prompt held <new1>: no more than AdamW's weight decay changes it
    decayed = start["word.<new1>"] * (1 - 0.1 * 0.01) ** 3
    assert torch.allclose(trainer.parameters["word.<new1>"], decayed)
    remove_words(policy.pipeline)
    after = weights(policy.pipeline)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_detach_leaves_nothing_and_the_adapter_attaches_again(policy: DiffusionPolicy) -> None:
    pipeline, adapter = policy.pipeline, TextualInversionAdapter(WORDS)
    tokenizer, embedding = pipeline.tokenizer, pipeline.text_encoder.get_input_embeddings()
    size, said = len(tokenizer), json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
    plain = policy.encode_prompts([PROMPT, ""]).tokens
    tokens = tokenizer(PROMPT).input_ids
    for _ in range(2):
        rows = adapter.attach(policy)
        assert not torch.equal(policy.encode_prompts([PROMPT, ""]).tokens, plain)
        assert torch.equal(rows["word.<sks>"][0], embedding.weight[policy.count_tokens("dog")[0]])
        with raises("word-second"):
            adapter.attach(policy)
        adapter.detach(policy)
        assert pipeline.tokenizer is tokenizer
        assert pipeline.text_encoder.get_input_embeddings() is embedding
        assert len(tokenizer) == size
        assert json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"] == said
        assert tokenizer(PROMPT).input_ids == tokens
        assert torch.equal(policy.encode_prompts([PROMPT, ""]).tokens, plain)
    adapter.detach(policy)  # of what is not attached


@pytest.mark.parametrize(
    ("words", "code", "fact"),
    [
        ((Word("dog", "dog"),), "identifier-known", "<dog>"),
        ((Word("<sks>", ""),), "initial-word-unknown", "''"),
        ((Word("<sks>", "dog", 0),), "setting-range", "adapter.vectors = 0"),
        ((Word("<sks>", "dog", 1000),), "setting-range", "adapter.vectors = 1000"),
        ((Word("<sks>", "dog"), Word("<sks>", "vase")), "identifier-twice", "<sks>"),
        ((Word("<sks>", "dog"), Word("<sks>_1", "vase")), "identifier-twice", "<sks>"),
        # The pipeline would not write the second vector behind it, which would learn nothing
        ((Word("<Sks>", "dog", 2),), "identifier-unreadable", "<Sks>"),
    ],
)
def test_words_that_cannot_be_added(policy: DiffusionPolicy, words: tuple[Word, ...], code: str, fact: str) -> None:
    tokenizer = policy.pipeline.tokenizer
    with raises(code, fact):
        add_words(policy.pipeline, words)
    assert policy.pipeline.tokenizer is tokenizer


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    def fresh(seed: int) -> Trainer:
        return word_trainer(DiffusionPolicy(make_pipeline()), TextualInversionAdapter(WORDS[:1]), seed)

    straight, first, second = fresh(0), fresh(0), fresh(9)
    terms = [result.terms for result in train(straight, 4)]
    assert [result.terms for result in train(first, 2)] == terms[:2]
    path = save_checkpoint(first, tmp_path)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    for name, parameter in straight.parameters.items():
        assert torch.equal(parameter, second.parameters[name])
    saved = load_file(path / "state.safetensors")
    assert {name: tuple(t.shape) for name, t in saved.items() if name.startswith("policy/")} == {
        "policy/word.<sks>": (3, 16)
    }
    assert (path / "state.safetensors").stat().st_size < 30_000  # most of it the generators'
    other = word_trainer(DiffusionPolicy(make_pipeline()), TextualInversionAdapter((Word("<sks>", "dog"),)))
    with raises("checkpoint-unusable", "other parameters"):
        load_newest(other, tmp_path)


def taught(policy: DiffusionPolicy, words: tuple[Word, ...], folder: Path) -> np.ndarray:
    """Words that have moved, exported; returns what their pipeline draws."""
    adapter = TextualInversionAdapter(words)
    with torch.no_grad():
        for seed, row in enumerate(adapter.attach(policy).values()):
            row += torch.randn(row.shape, generator=seeded(seed))
    folder.mkdir()
    adapter.export(policy, folder)
    return draw_images(policy.pipeline, [BOTH], [3], steps=3, guidance=3.0)


def test_plain_diffusers_draws_the_same_image(policy: DiffusionPolicy, tiny_model: Path, tmp_path: Path) -> None:
    """A word of three vectors and a word of one."""
    plain = draw_images(policy.pipeline, [BOTH], [3], steps=3, guidance=3.0)
    folder = tmp_path / "export"
    ours = taught(policy, WORDS, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "learned_embeds.safetensors", "learned_embeds_2.safetensors",
    ]  # fmt: skip
    script = page_script("textual-inversion", tiny_model, folder, steps=3, guidance=3.0, seed=3)
    second = 'pipeline.load_textual_inversion(folder, weight_name="learned_embeds_2.safetensors")'
    assert second in (PAGES / "textual-inversion.md").read_text(encoding="utf-8")
    first = "pipeline.load_textual_inversion(folder)\n"
    (theirs,) = draw_elsewhere([replace(script, {PROMPT: BOTH, first: f"{first}{second}\n"})], tmp_path)
    assert (theirs == ours[0]).all()
    assert (plain != ours).any()


def test_an_export_goes_into_a_plain_pipeline_at_any_strength(policy: DiffusionPolicy, tmp_path: Path) -> None:
    ours = taught(policy, WORDS, tmp_path / "export")
    for strength, expected in ((1.0, None), (0.0, "a photo of dog dog dog on the beach")):
        loaded = make_pipeline()
        state = torch.get_rng_state()
        load_words(loaded, tmp_path / "export", strength)
        assert torch.equal(torch.get_rng_state(), state)
        if expected is None:
            assert (draw_images(loaded, [BOTH], [3], steps=3, guidance=3.0) == ours).all()
        else:
            embedded = DiffusionPolicy(loaded).encode_prompts([PROMPT, expected]).tokens
            assert torch.equal(embedded[0], embedded[1])
        assert "<new1>" in loaded.tokenizer.get_vocab()
        assert not any(p.requires_grad for p in loaded.text_encoder.parameters())
    with raises("identifier-known", "<sks>", "--identifier"):
        load_words(loaded, tmp_path / "export")


def test_files_that_are_no_word_of_this_model(tmp_path: Path) -> None:
    path = tmp_path / "learned_embeds.safetensors"
    with raises("export-unreadable", "learned_embeds.safetensors"):
        load_words(make_pipeline(), tmp_path)
    save_file({"<sks>": torch.ones(1, 7)}, path)
    with raises("export-misfit", 7, 16):
        load_words(make_pipeline(), tmp_path)
    save_file({"<sks>": torch.ones(16)}, path)  # diffusers' form of one vector
    with raises("export-strength", "strength = 1"):
        load_words(make_pipeline(), tmp_path, 0.5)
    pipeline = make_pipeline()
    load_words(pipeline, tmp_path)
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[-1], torch.ones(16))
    save_file({"<a>": torch.ones(1, 16), "<b>": torch.ones(1, 16)}, path)
    with raises("export-unreadable", "learned_embeds.safetensors"):
        load_words(make_pipeline(), tmp_path)


def test_the_file_names_its_beginning(policy: DiffusionPolicy, tmp_path: Path) -> None:
    taught(policy, WORDS[:1], tmp_path / "export")
    with safe_open(tmp_path / "export" / "learned_embeds.safetensors", "pt") as file:
        assert file.metadata()["initial_word"] == "dog"
        assert [(name, tuple(file.get_slice(name).get_shape())) for name in file.keys()] == [("<sks>", (3, 16))]  # noqa: SIM118


def test_the_count_on_stable_diffusion() -> None:
    """768 numbers for each vector of a word."""
    pipeline = make_pipeline()
    with torch.device("meta"):  # the text encoder of Stable Diffusion 1.4
        pipeline.text_encoder = CLIPTextModel(CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, vocab_size=49408
        ))  # fmt: skip
    rows = TextualInversionAdapter(WORDS).attach(DiffusionPolicy(pipeline))
    assert [p.numel() for p in rows.values()] == [3 * 768, 768]
