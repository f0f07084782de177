"""NeTI: a vector for each timestep and layer, nested dropout by chance of its own, the same image elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from concepts import (
    PROMPT,
    WORD,
    disturb,
    draw,
    everything,
    make_trainer,
    seen_by_layers,
    some_state,
    weights,
)
from conftest import make_pipeline
from documented import draw_elsewhere, page_script
from errors import raises
from jobs import SETTINGS
from lookforward import personalize
from lookforward.adapters.layered_words import LayeredWordAdapter, read_word
from lookforward.adapters.neti import NetiNetwork
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly.adapter import build_adapter
from lookforward.config.recipe import load_settings
from lookforward.exports.load import load_export
from lookforward.models.families.layered_words.embeddings import SpaceTimeWords, draw_frequencies
from lookforward.models.families.layered_words.pipeline import LayeredWordPipeline
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward_toybox import MODEL
from tiny import seeded


def neti(
    seed: int = 0,
    width: int = 16,
    bypass: float = 0.2,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> LayeredWordAdapter:
    return LayeredWordAdapter(
        WORD, "vase", NetiNetwork(width, bypass, dropout, generator or seeded(seed)), changes_prompts=False
    )


def words(width: int = 16, bypass: float = 0.2, layers: int = 4, d: int = 8) -> SpaceTimeWords:
    frequencies = draw_frequencies(seeded())
    return SpaceTimeWords(torch.randn(d, generator=seeded(3)), frequencies, layers, width, bypass, seeded())


def test_it_begins_as_its_initial_word_and_trains_nothing_else() -> None:
    pipeline = make_pipeline()
    plain = draw(pipeline, "a photo of a vase on the beach")
    pipeline.unet.requires_grad_(True)  # whatever was trained before
    policy = DiffusionPolicy(pipeline)
    chance = torch.get_rng_state()
    parameters = neti(dropout=0.5).attach(policy)
    assert torch.equal(torch.get_rng_state(), chance)
    assert not everything(pipeline)["trained"]
    assert np.abs(draw(pipeline, f"a photo of a {WORD} on the beach") - plain).max() <= 1
    disturb(parameters)
    policy.act(some_state(policy, [PROMPT, PROMPT], 300, 10)).square().mean().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_the_first_weights_are_from_its_own_seed_alone() -> None:
    first = neti().attach(DiffusionPolicy(make_pipeline()))
    torch.manual_seed(77)
    again, other = (neti(seed).attach(DiffusionPolicy(make_pipeline())) for seed in (0, 1))
    assert all(torch.equal(p, again[name]) for name, p in first.items())
    assert not torch.equal(first["neti.first.weight"], other["neti.first.weight"])


def test_each_layer_and_each_timestep_has_its_own_conditioning() -> None:
    policy = DiffusionPolicy(make_pipeline())
    disturb(neti().attach(policy))
    prompts = [PROMPT, PROMPT, "a vase", "a vase"]
    seen = torch.stack(seen_by_layers(policy, some_state(policy, prompts, 5, 600, 5, 600)))  # (n, b, l, d)
    assert seen.shape == (4, 4, policy.pipeline.tokenizer.model_max_length, 16)
    for i in range(4):
        assert (seen[i, 0] - seen[i, 1]).abs().max() > 0.01
        assert torch.equal(seen[i, 2], seen[i, 3])
        assert torch.equal(seen[i, 2], seen[0, 2])
        assert all((seen[i, 0] - seen[j, 0]).abs().max() > 0.01 for j in range(i))
    swapped = torch.stack(seen_by_layers(policy, some_state(policy, prompts, 600, 5, 5, 600)))
    torch.testing.assert_close(swapped[:, [1, 0]], seen[:, :2])
    before = (seen[:, :2] != swapped[:, :2]).any(dim=(0, 1, 3))
    assert not before[:4].any()  # start, a, photo, of: the text encoder looks back only
    assert before[4:].all()


def test_the_vector_keeps_its_length_and_the_bypass_is_bounded() -> None:
    made = words(bypass=0.3)
    timestep = torch.tensor([0, 17, 999])
    vectors, bypass = made(timestep)
    torch.testing.assert_close(vectors, made.initial.expand(3, 4, 8))
    assert bypass is not None
    assert not bypass.any()
    disturb(dict(made.named_parameters()), 5.0)
    vectors, bypass = made(timestep)
    torch.testing.assert_close(vectors.norm(dim=-1), made.initial.norm().expand(3, 4))
    assert bypass is not None
    assert bypass.norm(dim=-1).max().item() == pytest.approx(0.3)
    made.strength = 0.0
    vectors, bypass = made(timestep)
    torch.testing.assert_close(vectors, made.initial.expand(3, 4, 8))
    assert bypass is not None
    assert not bypass.any()


def test_the_bypass_is_added_where_the_word_stands_alone() -> None:
    changed = []
    for bypass in (0.0, 0.2):
        policy = DiffusionPolicy(make_pipeline())
        disturb(neti(bypass=bypass).attach(policy))
        changed.append(torch.stack(seen_by_layers(policy, some_state(policy, [PROMPT], 5))))
    place = (changed[0] != changed[1]).any(dim=(0, 1, 3)).nonzero().flatten().tolist()
    assert place == [4]
    ratio = (changed[1] - changed[0])[:, 0, 4].norm(dim=-1) / changed[0][:, 0, 4].norm(dim=-1)
    assert (ratio <= 0.2001).all()


def test_nested_dropout_cuts_for_gradients_alone_and_by_its_own_chance() -> None:
    policy = DiffusionPolicy(make_pipeline())
    generator = seeded()
    disturb(neti(dropout=1.0, generator=generator).attach(policy))
    state = some_state(policy, [PROMPT], 300)
    chance, own = torch.get_rng_state(), generator.get_state()
    with torch.no_grad():
        still = [policy.act(state) for _ in range(2)]
    assert torch.equal(still[0], still[1])
    draw(policy.pipeline)
    assert torch.equal(generator.get_state(), own)
    moved = [policy.act(state).detach() for _ in range(2)]
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(torch.get_rng_state(), chance)
    generator.set_state(own)
    assert torch.equal(policy.act(state).detach(), moved[0])


def test_how_many_units_nested_dropout_keeps() -> None:
    keep = NetiNetwork(10, 0.2, 0.5, seeded()).draw_keep(500, 16)
    assert keep.shape == (500, 16)
    assert sorted(set(keep.flatten().tolist())) == list(range(1, 11))
    assert (keep < 10).float().mean().item() == pytest.approx(0.5 * 0.9, abs=0.03)
    made = words(width=10)
    disturb(dict(made.named_parameters()))
    whole, cut = [], []
    for count in (10, 3):
        made.draw_keep = lambda b, n, count=count: torch.full((b, n), count)
        (whole if count == 10 else cut).append(made(torch.tensor([5]))[0])
    with torch.no_grad():
        made.last.weight[:, 3:] = 0
    made.draw_keep = None
    torch.testing.assert_close(made(torch.tensor([5]))[0], cut[0])
    assert (whole[0] - cut[0]).abs().max() > 0.01


def test_half_precision_tells_timesteps_apart() -> None:
    policies = [DiffusionPolicy(make_pipeline(), precision) for precision in ("fp32", "bf16")]
    seen = []
    for policy in policies:
        parameters = neti().attach(policy)
        disturb(parameters)
        seen.append(torch.stack(seen_by_layers(policy, some_state(policy, [PROMPT] * 2, 997, 950))).float())
        policy.act(some_state(policy, [PROMPT], 997)).square().mean().backward()
        assert all(p.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in parameters.values())  # pyright: ignore
    torch.testing.assert_close(seen[1], seen[0], atol=0.1, rtol=0.1)
    assert (seen[1][:, 0] - seen[1][:, 1]).abs().max() > 0.1


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for kept in (False, True):
        policy = DiffusionPolicy(make_pipeline())
        parameters = neti(dropout=0.5).attach(policy)
        disturb(parameters)
        if kept:
            denoiser: Any = policy.denoiser.train()
            denoiser.enable_gradient_checkpointing()
        policy.act(some_state(policy, [PROMPT, "a vase"], 5, 500)).square().mean().backward()
        gradients.append({name: p.grad for name, p in parameters.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_detach_leaves_the_pipeline_as_it_was() -> None:
    pipeline = make_pipeline()
    policy = DiffusionPolicy(pipeline)
    image = draw(pipeline)
    before, tensors = everything(pipeline), weights(pipeline)
    adapter = neti()
    disturb(adapter.attach(policy))
    assert (draw(pipeline) != image).any()
    adapter.detach(policy)
    assert everything(pipeline) == before
    assert all(torch.equal(t, tensors[name]) for name, t in weights(pipeline).items())
    assert (draw(pipeline) == image).all()


def test_plain_diffusers_draws_the_same_image(tmp_path: Path) -> None:
    pipeline = load_pipeline(MODEL)
    plain = draw(pipeline, "a photo of vase on the beach")
    policy, adapter = DiffusionPolicy(pipeline), neti(dropout=0.5)
    disturb(adapter.attach(policy))
    (tmp_path / "export").mkdir()
    adapter.export(policy, tmp_path / "export")
    assert {path.name for path in (tmp_path / "export").iterdir()} == {
        "learned_embeds.safetensors",
        "pipeline.py",
        "embeddings.py",
    }
    ours = draw(pipeline)
    script = page_script("neti", MODEL, tmp_path / "export", steps=3, guidance=3.0, seed=3)
    assert (draw_elsewhere([script], tmp_path)[0] == ours[0]).all()
    assert np.abs(ours - plain).mean() > 5
    adapter.detach(policy)
    read_word(pipeline, tmp_path / "export", "neti")
    assert (draw(pipeline) == ours).all()
    adapter.detach(policy)
    read_word(pipeline, tmp_path / "export", "neti", 0.0)
    assert np.abs(draw(pipeline) - plain).max() <= 1


def fresh(seed: int, weights_seed: int = 0) -> Trainer:
    generator = seeded(weights_seed)
    adapter = neti(dropout=0.5, generator=generator)
    return make_trainer(adapter, DiffusionPolicy(make_pipeline()), generator, seed)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = fresh(0)
    terms = [result.terms for result in train(straight, 4)]
    first = fresh(0)
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    second = fresh(9)
    torch.randn(5, generator=second.adapter_generator)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    begun = fresh(0).parameters
    for name, parameter in straight.parameters.items():
        assert torch.equal(second.parameters[name], parameter), name
        assert not torch.equal(begun[name], parameter), name


def test_a_run_from_photos_to_images(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "run.steps": 2,
        "evaluation.sample_every": 2,
        "model.name": str(tiny_model),
        "model.device": "cpu",
        "run.batch_size": 2,
    }
    settings["optimizer.learning_rate"] = 0.03
    made = personalize(
        photos,
        "vase",
        recipe="dreambooth",
        output=tmp_path / "run",
        settings={"adapter.name": "neti", **settings},
    )
    assert isinstance(made.pipeline, LayeredWordPipeline)
    assert (made.run.samples / "step-000002.png").is_file()
    weak = load_export(made.run.export, "cpu", 0.0)
    assert (draw(weak) != draw(made.pipeline)).any()


def test_its_size_in_stable_diffusion_and_its_settings() -> None:
    made = words(width=128, layers=16, d=768)
    assert sum(p.numel() for p in made.parameters()) == 235_776
    settings = load_settings(
        "dreambooth", {"adapter.name": "neti", "subject.class_noun": "dog", "model.name": "some/model"}
    )
    assert (
        settings.run.steps,
        settings.optimizer.learning_rate,
        settings.run.batch_size,
        settings.objective.prior_weight,
    ) == (1000, 1e-3, 8, 0)
    built = build_adapter(settings, seeded())
    assert isinstance(built, LayeredWordAdapter)
    assert isinstance(built.make, NetiNetwork)
    assert (built.identifier, built.initial_word) == (WORD, "dog")
    assert (built.make.width, built.make.bypass, built.make.dropout) == (128, 0.2, 0.5)


@pytest.mark.parametrize(("setting", "value"), [("width", 0), ("bypass", -0.1), ("dropout", 1.5)])
def test_settings_out_of_range(setting: str, value: float) -> None:
    with raises("setting-range", f"adapter.neti_{setting}"):
        neti(**{setting: value})  # pyright: ignore
