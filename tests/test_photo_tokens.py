"""Photo tokens of a flow transformer: pretrained, drawn without training, trained on, and loaded in plain diffusers."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file

from errors import raises
from lookforward.adapters.elite import load_photo_prompt
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.start import check_start, show_photos, started
from lookforward.config.recipe import load_settings
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.photo_encoder import load_encoder
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward_toybox.draw import draw_world
from lookforward_toybox.training.photo_encoder import build_training, train_encoder
from test_photo_encoder import mean_loss
from tiny import seeded
from tiny_rewards import save_clip
from tiny_sd3 import make_sd3

PROMPT = "a photo of <sks> dog on the beach"
PLAIN = "a photo of dog on the beach"


def drawn(pipeline: Any, prompt: str = PROMPT) -> np.ndarray:
    return draw_images(pipeline, [prompt], [3], steps=2, guidance=3.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sd3")
    make_sd3(t5=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, model: str) -> dict[str, Any]:
    clip = save_clip(tmp_path_factory.mktemp("clip"))
    return {"model": model, "clip": str(clip), "batch": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    draw_world(folder, 12, workers=1)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, world: Path, given: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    list(train_encoder(world, folder, "tokens", steps=80, learning_rate=3e-3, **given))
    return folder


def test_its_stage_lowers_the_loss_and_resumes_to_the_bit(
    world: Path, given: dict[str, Any], encoder: Path, tmp_path: Path
) -> None:
    run = build_training(world, tmp_path / "new", "tokens", **given)
    before = mean_loss(run)
    run.encoder.load_state_dict(load_encoder(encoder).state_dict())
    assert mean_loss(run) < before - 1e-3
    states = []
    for name, parts in (("whole", (9,)), ("parts", (2, 9))):
        for rows in parts:
            training = train_encoder(world, tmp_path / name, "tokens", steps=4, log_every=1, **given)
            list(islice(training, rows))
            training.close()  # type: ignore[attr-defined]
        states.append(load_file(tmp_path / name / "tokens" / "state.safetensors"))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    with raises("encoder-stage", "tokens"):
        list(train_encoder(world, tmp_path / "wrong", "global", steps=1, **given))


def test_one_token_stands_for_the_zeros_in_t5s_place(world: Path, given: dict[str, Any], tmp_path: Path) -> None:
    """What training looks at, and what drawing does: the same output."""
    run = build_training(world, tmp_path, "tokens", **given)
    seen = run.tower(torch.rand(2, 3, 32, 32, generator=seeded()))
    short = run._with_tokens(run.tokens[:2, 0], seen)
    run.policy.pipeline.text_encoder.config.absent_t5_tokens = 1  # a model that is never given these zeros
    assert torch.equal(run._with_tokens(run.tokens[:2, 0], seen).tokens, short.tokens)
    plain = DiffusionPolicy(make_sd3(t5=False))
    long = plain.encode_prompts([run.texts[int(one)] for one in run.tokens[:2, 0, 0]])
    tokens = long.tokens.clone()
    tokens[:, -run.encoder.sizes.tokens :] = run.encoder.tokens(seen)
    x_t, sigma = torch.randn(2, 4, 8, 8, generator=seeded(1)), torch.tensor([300.0, 700.0])
    outputs = [
        one.denoiser(x_t, encoder_hidden_states=states, pooled_projections=long.pooled, timestep=sigma)[0]
        for one, states in ((run.policy, short.tokens), (plain, tokens))
    ]
    assert short.tokens.shape[1] < 60 < tokens.shape[1]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def test_photos_have_their_places_in_a_model_with_fewer_tokens(model: str, encoder: Path) -> None:
    seen, encoded = torch.rand(2, 3, 40, 40, generator=seeded(5)), []
    for tokens in (256, 1):
        shown = build_pipeline(model, "cpu")
        shown.text_encoder.config.absent_t5_tokens = tokens
        show_photos(shown, encoder, seen, "<sks>", "dog")
        encoded.append(DiffusionPolicy(shown).encode_prompts(["a photo of <sks> dog", PLAIN]).tokens)
    assert torch.equal(*encoded)


@pytest.mark.parametrize("adapter", ["elite", "lora", "full"])
def test_a_run_starts_from_exactly_what_the_encoder_draws(
    adapter: str, model: str, encoder: Path, tmp_path: Path
) -> None:
    seen = torch.rand(2, 3, 40, 40, generator=seeded(5))
    shown = build_pipeline(model, "cpu")
    plain = drawn(shown, PLAIN)
    show_photos(shown, encoder, seen, "<sks>", "dog")
    expected = drawn(shown)
    assert (expected != plain).any()
    assert (drawn(shown, PLAIN) == plain).all()
    chosen = {"adapter.name": adapter, "adapter.encoder": str(encoder), "subject.class_noun": "dog"}
    chosen |= {"adapter.train_text_encoder": False, "model.name": model}
    settings = load_settings("dreambooth", chosen)
    pipeline = build_pipeline(model, "cpu")
    policy = DiffusionPolicy(pipeline)
    check_start(settings, policy)
    made = started(build_adapter(settings, seeded(), policy.family), settings, [seen], policy)
    parameters = made.attach(policy)
    assert (drawn(pipeline) == expected).all()
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=seeded())
    trained = drawn(pipeline)
    assert (trained != expected).any()
    made.export(policy, tmp_path)
    assert (drawn(pipeline) == trained).all()
    made.detach(policy)
    assert type(pipeline) is StableDiffusion3Pipeline
    if adapter != "lora":
        again: Any = build_pipeline(model if adapter == "elite" else str(tmp_path), "cpu")
        load_photo_prompt(again, tmp_path)
        assert (drawn(again) == trained).all()
        with raises("export-misfit"):
            load_photo_prompt(again, tmp_path)
    with raises("adapter-start", "textual-inversion"):
        check_start(load_settings("dreambooth", chosen | {"adapter.name": "textual-inversion"}), policy)
