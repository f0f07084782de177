"""P+: a vector for each cross-attention layer, the same image in plain diffusers, and a model left as it was."""

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
    stable_diffusion_unet,
    weights,
)
from conftest import make_pipeline
from documented import draw_elsewhere, page_script
from errors import raises
from jobs import SETTINGS
from lookforward import personalize
from lookforward.adapters.layered_words import read_word
from lookforward.adapters.p_plus import p_plus
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly.adapter import build_adapter
from lookforward.config.recipe import load_settings
from lookforward.exports.load import load_export
from lookforward.models.families.layered_words.embeddings import LayerWords
from lookforward.models.families.layered_words.pipeline import LayeredWordPipeline, cross_attentions
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward_toybox import MODEL
from tiny import seeded

ADAPTER = p_plus(WORD, "vase")


def test_it_begins_as_its_initial_word_and_trains_nothing_else() -> None:
    pipeline: Any = make_pipeline()
    plain = draw(pipeline, "a photo of a vase on the beach")
    pipeline.unet.requires_grad_(True)  # whatever was trained before
    policy = DiffusionPolicy(pipeline)
    chance = torch.get_rng_state()
    parameters = ADAPTER.attach(policy)
    assert torch.equal(torch.get_rng_state(), chance)
    assert {name: tuple(p.shape) for name, p in parameters.items()} == {"p-plus.vectors": (4, 16)}
    assert not everything(pipeline)["trained"]
    assert (draw(pipeline, f"a photo of a {WORD} on the beach") == plain).all()
    policy.act(some_state(policy, [PROMPT], 300)).square().mean().backward()
    (vectors,) = parameters.values()
    assert vectors.grad is not None
    assert vectors.grad.any(dim=1).all()


def test_each_layer_sees_its_own_vector_and_no_other() -> None:
    policy = DiffusionPolicy(make_pipeline())
    (vectors,) = ADAPTER.attach(policy).values()
    prompts = [PROMPT, "a vase", PROMPT]
    before = seen_by_layers(policy, some_state(policy, prompts, 5, 500, 900))
    assert [seen.shape for seen in before] == [(3, policy.pipeline.tokenizer.model_max_length, 16)] * 4
    names = list(cross_attentions(policy.denoiser))
    begun = vectors.detach().clone()
    for i in range(len(names)):
        with torch.no_grad():
            vectors.copy_(begun)
            vectors[i] += 1
        after = seen_by_layers(policy, some_state(policy, prompts, 5, 500, 900))
        pairs = zip(before, after, strict=True)
        changed = [[not torch.equal(a, b) for a, b in zip(*layer, strict=True)] for layer in pairs]
        assert changed == [[j == i, False, j == i] for j in range(len(names))]


def test_the_layers_of_stable_diffusion_in_order() -> None:
    unet = stable_diffusion_unet()
    names = list(cross_attentions(unet))
    places = [name.removesuffix(".transformer_blocks.0.attn2") for name in names]
    assert places == [
        *(f"down_blocks.{block}.attentions.{i}" for block in range(3) for i in range(2)),
        "mid_block.attentions.0",
        *(f"up_blocks.{block}.attentions.{i}" for block in range(1, 4) for i in range(3)),
    ]
    words = LayerWords(torch.zeros(16, 768), torch.zeros(768))
    assert [p.numel() for p in words.parameters()] == [16 * 768]


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for kept in (False, True):
        policy = DiffusionPolicy(make_pipeline())
        parameters = ADAPTER.attach(policy)
        disturb(parameters)
        if kept:
            denoiser: Any = policy.denoiser.train()
            denoiser.enable_gradient_checkpointing()
        policy.act(some_state(policy, [PROMPT, "a vase"], 5, 500)).square().mean().backward()
        gradients.append(parameters["p-plus.vectors"].grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0].any()


def test_detach_leaves_the_pipeline_as_it_was_and_it_can_be_attached_again() -> None:
    pipeline = make_pipeline()
    policy = DiffusionPolicy(pipeline)
    image = draw(pipeline)
    before, tensors = everything(pipeline), weights(pipeline)
    for _ in range(2):
        disturb(ADAPTER.attach(policy))
        assert (draw(pipeline) != image).any()
        ADAPTER.detach(policy)
        assert everything(pipeline) == before
    assert all(torch.equal(t, tensors[name]) for name, t in weights(pipeline).items())
    assert (draw(pipeline) == image).all()
    ADAPTER.detach(policy)  # a plain one stays as it is


def test_a_prompt_without_the_word_is_that_of_the_plain_model() -> None:
    pipeline: Any = make_pipeline()
    plain = draw(pipeline, "a vase in the snow")
    disturb(ADAPTER.attach(DiffusionPolicy(pipeline)))
    assert np.abs(draw(pipeline, "a vase in the snow") - plain).max() <= 1
    embeds = make_pipeline().encode_prompt("a vase in the snow", "cpu", 1, True)
    names = ("prompt_embeds", "negative_prompt_embeds")
    noise = {"guidance_scale": 3.0, "num_inference_steps": 3, "output_type": "np"}
    drawn = pipeline(**dict(zip(names, embeds, strict=True)), **noise, generator=seeded(3)).images
    assert np.abs((drawn * 255).round() - plain).max() <= 1  # one embedding for all layers passes as it is


def test_several_images_of_a_prompt_and_negative_prompts() -> None:
    pipeline: Any = make_pipeline()
    disturb(ADAPTER.attach(DiffusionPolicy(pipeline)))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "np"}
    twice = pipeline(PROMPT, num_images_per_prompt=2, generator=[seeded(3), seeded(4)], **settings).images
    asked = pipeline([PROMPT] * 2, negative_prompt="", generator=[seeded(3), seeded(4)], **settings).images
    np.testing.assert_allclose(twice, asked, atol=1e-5)
    without = pipeline([PROMPT] * 2, negative_prompt=WORD, generator=[seeded(3), seeded(4)], **settings).images
    assert np.abs(without - asked).max() > 0.01
    with pytest.raises(ValueError, match="clip_skip"):
        pipeline(PROMPT, clip_skip=1, **settings)


def test_plain_diffusers_draws_the_same_image(tmp_path: Path) -> None:
    pipeline = load_pipeline(MODEL)
    plain = draw(pipeline, "a photo of vase on the beach")
    policy = DiffusionPolicy(pipeline)
    disturb(ADAPTER.attach(policy))
    (tmp_path / "export").mkdir()
    ADAPTER.export(policy, tmp_path / "export")
    files = {path.name: path.stat().st_size for path in (tmp_path / "export").iterdir()}
    assert files.keys() == {"learned_embeds.safetensors", "pipeline.py", "embeddings.py"}
    assert files["learned_embeds.safetensors"] < 4 * (7 + 1) * 128 + 1000
    ours = draw(pipeline)
    script = page_script("p-plus", MODEL, tmp_path / "export", steps=3, guidance=3.0, seed=3)
    assert (draw_elsewhere([script], tmp_path)[0] == ours[0]).all()
    assert np.abs(ours - plain).mean() > 10


def test_strength_goes_from_the_initial_word_to_the_learned_one(tmp_path: Path) -> None:
    policy = DiffusionPolicy(load_pipeline(MODEL))
    images = [draw(policy.pipeline, "a photo of vase on the beach")]
    disturb(ADAPTER.attach(policy))
    ADAPTER.export(policy, tmp_path)
    full = draw(policy.pipeline)
    ADAPTER.detach(policy)
    for strength in (0.0, 0.5, 1.0):
        read_word(policy.pipeline, tmp_path, "p-plus", strength)
        images.append(draw(policy.pipeline))
        ADAPTER.detach(policy)
    assert np.abs(images.pop(0) - images[0]).max() <= 1
    assert (images[2] == full).all()
    assert min(np.abs(images[1] - other).mean() for other in images[::2]) > 1


def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    policy = DiffusionPolicy(make_pipeline())
    disturb(ADAPTER.attach(policy))
    ADAPTER.export(policy, tmp_path)
    pipeline = make_pipeline()
    before = everything(pipeline)
    with raises("export-misfit", "neti"):
        read_word(pipeline, tmp_path, "neti")
    with raises("export-misfit", "nowhere"):
        read_word(pipeline, tmp_path / "nowhere", "p-plus")
    assert everything(pipeline) == before
    pipeline.unet.up_blocks[1].attentions[1].transformer_blocks[0].attn2 = None
    with raises("export-misfit", "learned on another model"):
        read_word(pipeline, tmp_path, "p-plus")
    read_word(other := make_pipeline(), tmp_path, "p-plus")
    with raises("word-second", WORD):
        read_word(other, tmp_path, "p-plus")
    assert isinstance(other, LayeredWordPipeline)
    assert other.identifier == WORD
    with raises("identifier-known", "vase"):
        p_plus("vase", "vase").attach(DiffusionPolicy(make_pipeline()))


def fresh(seed: int) -> Trainer:
    return make_trainer(ADAPTER, DiffusionPolicy(make_pipeline()), seeded(seed), seed)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = fresh(0)
    terms = [result.terms for result in train(straight, 4)]
    first = fresh(0)
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    second = fresh(9)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    assert torch.equal(second.parameters["p-plus.vectors"], straight.parameters["p-plus.vectors"])
    assert not torch.equal(straight.parameters["p-plus.vectors"], fresh(0).parameters["p-plus.vectors"])


def test_a_run_from_photos_to_images(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "run.steps": 2,
        "evaluation.sample_every": 2,
        "model.name": str(tiny_model),
        "model.device": "cpu",
        "run.batch_size": 2,
    }
    settings["optimizer.learning_rate"] = 0.3
    made = personalize(
        photos,
        "vase",
        recipe="dreambooth",
        output=tmp_path / "run",
        settings={"adapter.name": "p-plus", **settings},
    )
    assert made.run.settings.subject.identifier == WORD
    assert isinstance(made.pipeline, LayeredWordPipeline)
    assert (made.run.samples / "step-000002.png").is_file()
    weak = load_export(made.run.export, "cpu", 0.0)
    assert np.abs(draw(weak) - draw(weak, "a photo of vase on the beach")).max() <= 1
    assert (draw(weak) != draw(made.pipeline)).any()


def test_settings() -> None:
    settings = load_settings(
        "dreambooth", {"adapter.name": "p-plus", "subject.class_noun": "dog", "model.name": "some/model"}
    )
    assert (
        settings.run.steps,
        settings.optimizer.learning_rate,
        settings.run.batch_size,
        settings.objective.prior_weight,
    ) == (500, 5e-3, 8, 0)
    assert (settings.subject.identifier, settings.subject.noun_in_prompt) == (WORD, False)
    assert build_adapter(settings, seeded()) == p_plus(WORD, "dog")
    dpok = load_settings("dpok", {"adapter.name": "p-plus", "subject.class_noun": "dog"})
    with raises("adapter-dpok", "p-plus"):
        build_adapter(dpok, seeded())
