"""Custom Diffusion: keys and values of the cross-attentions and a word, nothing else, here and in plain diffusers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from conftest import make_pipeline
from documented import draw_elsewhere, page_script
from errors import raises
from lookforward.adapters.custom_diffusion import (
    WEIGHTS,
    CustomDiffusionAdapter,
    cross_attentions,
    load_custom_diffusion,
)
from lookforward.adapters.full import save_pipeline
from lookforward.adapters.words import Word
from lookforward.algorithm.trainer import Trainer, train
from lookforward.core.types import Conditioning, State
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import pipeline_trainer, seeded

PROMPT = "a photo of <new1> dog on the beach"
BEGINNING = "a photo of red dog on the beach"  # what <new1> begins with
ADAPTER = CustomDiffusionAdapter((Word("<new1>", "red"),))


def fresh_policy() -> DiffusionPolicy:
    return DiffusionPolicy(make_pipeline())


def custom_trainer(policy: DiffusionPolicy, seed: int = 0) -> Trainer:
    return pipeline_trainer(policy, ADAPTER, PROMPT, seed=seed, rate=0.05, class_images=True)


def weights(policy: DiffusionPolicy) -> dict[str, Tensor]:
    parts = policy.components
    return {f"{part}.{name}": p.clone() for part, module in parts.items() for name, p in module.state_dict().items()}


def drawn(policy: DiffusionPolicy, prompt: str = PROMPT) -> np.ndarray:
    return draw_images(policy.pipeline, [prompt], [3], steps=3, guidance=3.0)


def state(policy: DiffusionPolicy) -> State:
    return State(
        torch.randn(2, 4, 8, 8, generator=seeded(1)), torch.tensor([10, 700]), policy.encode_prompts([PROMPT] * 2)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffusionPolicy, Path]:
    """A policy with the adapter trained for some steps, and its export."""
    policy, folder = fresh_policy(), tmp_path_factory.mktemp("export")
    list(train(custom_trainer(policy), 6))
    ADAPTER.export(policy, folder)
    return policy, folder


def test_keys_values_and_the_word_learn_and_detach_leaves_the_model_as_it_was() -> None:
    policy = fresh_policy()
    before, tokenizer = weights(policy), policy.pipeline.tokenizer
    plain = drawn(policy)
    for _ in range(2):
        trainer = custom_trainer(policy)
        start = {name: p.detach().clone() for name, p in trainer.parameters.items()}
        assert {name.rpartition("attn2.")[2] for name in start} == {"word.<new1>", "to_k.weight", "to_v.weight"}
        assert len(start) == 1 + 2 * len(cross_attentions(policy.denoiser))
        list(train(trainer, 2))
        assert all((p != start[name]).any() for name, p in trainer.parameters.items())
        learning = [p for module in policy.components.values() for p in module.parameters() if p.requires_grad]
        assert {id(p) for p in learning} == {id(p) for p in trainer.parameters.values()}
        assert (drawn(policy) != plain).any()
        ADAPTER.detach(policy)
        after = weights(policy)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert policy.pipeline.tokenizer is tokenizer
        assert (drawn(policy) == plain).all()


def test_attaching_changes_nothing_yet_and_the_start_of_a_prompt_teaches_nothing() -> None:
    policy = fresh_policy()
    words = policy.encode_prompts(["a photo of red dog"])
    x_t, timestep = torch.randn(1, 4, 8, 8, generator=seeded(1)), torch.tensor([300])
    plain = policy.act(State(x_t, timestep, words))
    parameters = ADAPTER.attach(policy)
    assert torch.equal(policy.act(State(x_t, timestep, words)), plain)
    parameters.pop("word.<new1>")
    policy.act(
        State(x_t, timestep, Conditioning(words.tokens[:, :1]))
    ).sum().backward()  # a prompt of nothing but its start
    assert all(p.grad is None or not p.grad.any() for p in parameters.values())
    policy.act(State(x_t, timestep, words)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in parameters.values())


def test_the_same_gradient_with_gradient_checkpointing() -> None:
    gradients = []
    for checkpointed in (False, True):
        policy = fresh_policy()
        if checkpointed:
            policy.pipeline.unet.enable_gradient_checkpointing()
            policy.denoiser.train()
        parameters = ADAPTER.attach(policy)
        policy.act(state(policy)).square().mean().backward()
        gradients.append({name: p.grad for name, p in parameters.items()})
    for name, plain in gradients[0].items():
        assert plain is not None, name
        assert plain.any(), name
        assert torch.allclose(plain, gradients[1][name], rtol=1e-4, atol=1e-7), name


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    straight, first, second = (custom_trainer(fresh_policy(), seed) for seed in (0, 0, 9))
    terms = [result.terms for result in train(straight, 4)]
    assert [result.terms for result in train(first, 2)] == terms[:2]
    save_checkpoint(first, tmp_path)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    for name, parameter in straight.parameters.items():
        assert torch.equal(parameter, second.parameters[name]), name


def test_plain_diffusers_draws_the_same_image(
    trained: tuple[DiffusionPolicy, Path], tiny_model: Path, tmp_path: Path
) -> None:
    policy, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == ["learned_embeds.safetensors", WEIGHTS]
    script = page_script("custom-diffusion", tiny_model, folder, steps=3, guidance=3.0, seed=3)
    (theirs,) = draw_elsewhere([script], tmp_path)
    ours, plain = drawn(policy)[0], drawn(fresh_policy(), BEGINNING)[0]
    # diffusers computes these attentions in another order, which may move a pixel by one step
    assert np.abs(theirs - ours).max() <= 1
    assert np.abs(plain.astype(int) - ours).max() > 20


def test_an_export_goes_into_a_plain_pipeline_at_any_strength(trained: tuple[DiffusionPolicy, Path]) -> None:
    policy, folder = trained
    loaded = {strength: fresh_policy() for strength in (0.0, 0.5, 1.0)}
    for strength, other in loaded.items():
        load_custom_diffusion(other.pipeline, folder, strength)
    assert (drawn(loaded[1.0]) == drawn(policy)).all()
    base = fresh_policy()
    assert (drawn(loaded[0.0]) == drawn(base, BEGINNING)).all()
    learned = cross_attentions(policy.denoiser)
    for name, attention in cross_attentions(loaded[0.5].denoiser).items():
        middle = (cross_attentions(base.denoiser)[name].to_k.weight + learned[name].to_k.weight) / 2
        assert torch.allclose(attention.to_k.weight, middle, atol=1e-6)


def test_merged_it_is_a_pipeline_folder_with_the_word(trained: tuple[DiffusionPolicy, Path], tmp_path: Path) -> None:
    policy, folder = trained
    pipeline = make_pipeline()
    load_custom_diffusion(pipeline, folder)
    save_pipeline(DiffusionPolicy(pipeline), tmp_path / "merged")
    merged = load_pipeline(tmp_path / "merged")
    assert "<new1>" in merged.tokenizer.get_vocab()
    assert (drawn(DiffusionPolicy(merged)) == drawn(policy)).all()


def test_files_that_do_not_fit(trained: tuple[DiffusionPolicy, Path], tmp_path: Path) -> None:
    pipeline = make_pipeline()
    before = weights(DiffusionPolicy(pipeline))
    with raises("export-unreadable", WEIGHTS):
        load_custom_diffusion(pipeline, tmp_path)
    tensors = load_file(trained[1] / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.numel())
    for wrong in ({k: v for k, v in tensors.items() if k != name}, tensors | {name: torch.ones(3, 3)}):
        save_file(wrong, tmp_path / WEIGHTS)
        with raises("export-misfit", WEIGHTS):
            load_custom_diffusion(pipeline, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(DiffusionPolicy(pipeline)).items())


def test_the_counts_on_stable_diffusion() -> None:
    pipeline = make_pipeline()
    with torch.device("meta"):  # the parts of Stable Diffusion 1.4
        pipeline.unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        pipeline.text_encoder = CLIPTextModel(CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, vocab_size=49408
        ))  # fmt: skip
    assert sum(p.numel() for p in pipeline.unet.parameters()) == 859_520_964
    places = [name.partition("_block")[0] for name in cross_attentions(pipeline.unet)]
    assert {place: places.count(place) for place in set(places)} == {"down": 6, "mid": 1, "up": 9}
    parameters = ADAPTER.attach(DiffusionPolicy(pipeline))
    assert sum(p.numel() for name, p in parameters.items() if name.startswith("unet.")) == 19_169_280
    assert parameters["word.<new1>"].numel() == 768
