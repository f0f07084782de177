"""The photo encoder of ELITE on a tiny model: its two stages, its folder, and what training starts from."""

import json
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import make_pipeline, save_image
from errors import raises
from jobs import SETTINGS, Command
from lookforward import load_personalized, personalize
from lookforward.adapters.elite import EliteAdapter, Start, load_photo_prompt
from lookforward.adapters.words import Word
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.start import check_start, encode_photos, show_photos, started
from lookforward.config.recipe import load_settings
from lookforward.exports.merge import merge
from lookforward.exports.png import read_metadata
from lookforward.exports.source import find_source
from lookforward.models.families.flux import FLUX
from lookforward.models.families.photo_prompts.pipeline import DetailProjections, cross_attentions
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.photo_encoder import (
    EncoderSizes,
    PhotoEncoder,
    load_encoder,
    require_encodable,
    require_fits,
    save_encoder,
)
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward_toybox.draw import draw_world
from lookforward_toybox.training.photo_data import of_subject, open_photos, open_world
from lookforward_toybox.training.photo_encoder import build_training, train_encoder
from lookforward_toybox.training.photo_steps import with_all_words
from lookforward_toybox.training.state import load_averaged
from tiny import seeded
from tiny_rewards import save_clip

WORD = Word("<sks>", "dog")
PROMPT = "a photo of <sks> dog on the beach"


def drawn(pipeline: Any, prompt: str = PROMPT) -> np.ndarray:
    return draw_images(pipeline, [prompt], [3], steps=2, guidance=3.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    draw_world(folder, 12, workers=1)
    return folder


@pytest.fixture(scope="module")
def given(tiny_model: Path, clip: str) -> dict[str, Any]:
    return {"model": str(tiny_model), "clip": clip, "batch": 4, "log_every": 1}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, world: Path, given: dict[str, Any]) -> Path:
    """An encoder with both stages trained for some steps, its details made louder."""
    folder = tmp_path_factory.mktemp("encoder")
    for stage in ("global", "local"):
        assert list(train_encoder(world, folder, stage, steps=3, **given))
    made = load_encoder(folder)
    with torch.no_grad():
        for i, layer in enumerate(made.projections.to_v):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=seeded(i)))  # pyright: ignore
    save_encoder(made, folder / "export", "local")
    return folder


@pytest.fixture(scope="module")
def seen(photos: Path) -> Tensor:
    return torch.rand(2, 3, 40, 40, generator=seeded(5))


def mean_loss(run: Any, seeds: Sequence[int] = range(6)) -> float:
    with torch.no_grad():
        return sum(float(run.terms(0, seeded(seed))["reconstruction"]) for seed in seeds) / len(seeds)


@pytest.mark.parametrize("stage", ["global", "local"])
def test_a_stage_lowers_its_loss_on_pictures_that_it_sees(
    stage: str, world: Path, given: dict[str, Any], encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(encoder / "global", tmp_path / "global")
    if stage == "global":
        shutil.rmtree(tmp_path / "global")
    options = {name: value for name, value in given.items() if name != "log_every"}
    before = mean_loss(build_training(world, tmp_path, stage, **options))
    list(train_encoder(world, tmp_path, stage, steps=150, learning_rate=1e-2, **given | {"log_every": 50}))
    run = build_training(world, tmp_path, stage, **options)
    run.encoder.load_state_dict(load_encoder(tmp_path / stage / "encoder").state_dict())
    assert mean_loss(run) < before - 1e-3
    trained = {name.partition(".")[0] for name, one in run.encoder.named_parameters() if one.requires_grad}
    assert trained == ({"global_mapping"} if stage == "global" else {"local_mapping", "projections"})


@pytest.mark.parametrize("stage", ["global", "local"])
def test_a_stage_resumes_to_the_bit(
    stage: str, world: Path, given: dict[str, Any], encoder: Path, tmp_path: Path
) -> None:
    states = []
    for name, parts in (("whole", (9,)), ("parts", (2, 9))):
        if stage == "local":
            shutil.copytree(encoder / "global", tmp_path / name / "global")
        for rows in parts:
            training = train_encoder(world, tmp_path / name, stage, steps=4, **given)
            list(islice(training, rows))
            training.close()  # type: ignore[attr-defined]
        states.append(load_file(tmp_path / name / stage / "state.safetensors"))
        assert (tmp_path / name / "export" / "encoder.json").is_file()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    with raises("toybox-other-settings", "batch"):
        list(train_encoder(world, tmp_path / "whole", stage, steps=4, **given | {"batch": 2}))


def test_captions_of_the_world_name_the_subject_once_and_say_no_more_of_it(world: Path) -> None:
    facts = {"class_noun": "vase", "colour": "red", "pattern": "banded"}
    caption = "a photo of a shiny red striped vase with a blue star on it on the beach"
    assert of_subject([caption], facts) == [
        "a photo of a shiny {} vase on the beach",
        "a photo of a shiny {} on the beach",
    ]
    with pytest.raises(ValueError, match="vase"):
        of_subject(["a photo of a dog"], facts)
    data = open_world(world)
    index, source = data.draw(64, seeded())
    assert (index // 2 == source // 2).all()
    assert (index != source).all()
    names = {one["class_noun"] for one in json.loads((world / "subjects.json").read_text(encoding="utf-8"))}
    kept = open_world(world, sorted(names)[:1])
    assert 0 < len(kept.chosen) < len(data.chosen)
    with raises("encoder-data", "--without"):
        open_world(world, sorted(names))


def test_a_folder_of_photos_and_of_folders(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png", "dog/0.png", "dog/1.png", "dog/2.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        save_image(photos / name, len(name) + ord(name[-5]))
    (photos / "a.txt").write_text("a {} in the snow", encoding="utf-8")
    data = open_photos(photos, tmp_path / "data", "", 32)
    assert data.images.shape == (5, 32, 32, 3)
    assert data.captions[:2] == [["a {} in the snow"], ["a photo of {}"]]
    assert data.groups.tolist() == [[0, 1], [1, 1], [2, 3], [2, 3], [2, 3]]
    index, source = data.draw(200, seeded())
    alone = index < 2
    assert (index[alone] == source[alone]).all()
    assert (index[~alone] != source[~alone]).all()
    assert set(source[~alone].tolist()) == {2, 3, 4}


def test_words_of_all_layers_follow_the_first() -> None:
    tokens = torch.tensor([[1, 9, 2, 3, 4, 5], [9, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 5]])
    assert with_all_words(tokens, 9, 3).tolist() == [[1, 9, 10, 11, 2, 3], [9, 10, 11, 1, 2, 3], [1, 2, 3, 4, 5, 5]]


def test_details_are_read_where_the_image_looks_at_the_word() -> None:
    """The formula of `DetailAttention`, for each sample and head by itself."""
    pipeline = make_pipeline()
    policy = DiffusionPolicy(pipeline)
    projections = DetailProjections.of(pipeline.unet, 16)
    torch.nn.init.normal_(projections.to_v[0].weight, generator=seeded(2))  # pyright: ignore
    details = torch.randn(5, 16, generator=seeded(1))
    start = Start((torch.randn(16, generator=seeded(3)),), (details,), projections, 0.7)
    EliteAdapter((WORD,), start=start).attach(policy)
    layer: Any = next(iter(cross_attentions(pipeline.unet).values()))
    hidden = torch.randn(2, 6, 16, generator=seeded(4))
    states = policy.encode_prompts([PROMPT, "a photo of dog"]).tokens
    found = layer(hidden, encoder_hidden_states=states)
    ids = pipeline.tokenizer(PROMPT).input_ids
    place = ids.index(pipeline.tokenizer.convert_tokens_to_ids("<sks>"))
    q, text = layer.to_q(hidden[0]), states[0, :32]
    heads = []
    for some in q.shape[1] // layer.heads * torch.arange(layer.heads):
        part = slice(int(some), int(some) + q.shape[1] // layer.heads)
        looks = (layer.scale * q[:, part] @ layer.to_k(text)[:, part].T).softmax(dim=-1)
        own: Any = projections
        seen = (layer.scale * q[:, part] @ own.to_k[0](details)[:, part].T).softmax(-1) @ own.to_v[0](details)[:, part]
        gate = looks[:, place] / looks[:, place].max()
        heads.append(looks @ layer.to_v(text)[:, part] + 0.7 * gate[:, None] * seen)
    assert torch.allclose(found[0], layer.to_out[0](torch.cat(heads, dim=1)), atol=1e-5)
    plain = layer(hidden[1:], encoder_hidden_states=states[1:, :32])  # without the word
    assert torch.allclose(found[1:], plain, atol=1e-5)


@pytest.mark.parametrize("adapter", ["elite", "full", "lora", "textual-inversion", "custom-diffusion", "pivotal"])
def test_a_run_starts_from_exactly_what_the_encoder_draws(
    adapter: str, tiny_model: Path, encoder: Path, seen: Tensor, tmp_path: Path
) -> None:
    shown = build_pipeline(str(tiny_model), "cpu")
    plain = drawn(shown, PROMPT.replace("<sks> ", ""))
    show_photos(shown, encoder, seen, "<sks>", "dog")
    expected = drawn(shown)
    assert (expected != plain).any()
    assert (drawn(shown, PROMPT.replace("<sks> ", "")) == plain).all()
    given = {"adapter.name": adapter, "adapter.encoder": str(encoder), "subject.class_noun": "dog"}
    settings = load_settings("dreambooth", given | {"model.name": str(tiny_model)})
    assert settings.subject.identifier in ("<sks>", "<new1>")
    pipeline = build_pipeline(str(tiny_model), "cpu")
    policy = DiffusionPolicy(pipeline)
    made = started(build_adapter(settings, seeded(), policy.family), settings, [seen], policy)
    parameters = made.attach(policy)
    prompt = PROMPT.replace("<sks>", settings.subject.identifier)
    assert (drawn(pipeline, prompt) == expected).all()
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += 0.02 * torch.randn(parameter.shape, generator=seeded())
    trained = drawn(pipeline, prompt)
    assert (trained != expected).any()
    made.export(policy, tmp_path)
    assert (drawn(pipeline, prompt) == trained).all()  # as it was
    made.detach(policy)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    if adapter == "full":
        again: Any = build_pipeline(str(tmp_path), "cpu")
        load_photo_prompt(again, tmp_path)
        assert (drawn(again) == trained).all()


@pytest.mark.parametrize("adapter", ["full", "lora", "elite"])
def test_a_run_from_an_encoder_is_exported_loaded_and_resumed(
    adapter: str, tiny_model: Path, encoder: Path, photos: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "model.name": str(tiny_model), "adapter.name": adapter, "evaluation.sample_every": 0}
    images = []
    for name in ("whole", "parts"):
        folder = tmp_path / name
        model = None
        for steps in (2, 4) if name == "parts" else (4,):
            model = personalize(
                photos, "teapot", output=folder, recipe="look-forward", start_from=str(encoder),
                settings=settings | {"run.steps": steps},
            )  # fmt: skip
        assert model is not None
        images.append(np.asarray(load_personalized(folder).generate("a photo of {} in the snow", steps=2)[0]))
        assert (images[-1] == np.asarray(model.generate("a photo of {} in the snow", steps=2)[0])).all()
    assert (images[0] == images[1]).all()
    with raises("adapter-unmergeable"):
        merge([(find_source(tmp_path / "whole"), 1.0)], tmp_path / "merged")
    other = shutil.copytree(encoder, tmp_path / "other")
    made = load_encoder(other)
    save_encoder(PhotoEncoder(made.sizes), other / "export", "local")
    with raises("run-differs", "adapter.encoder"):
        personalize(
            photos, "teapot", output=tmp_path / "whole", recipe="look-forward", start_from=str(other),
            settings=settings | {"run.steps": 6},
        )  # fmt: skip


def test_what_is_missing_damaged_or_of_another_model_is_one_clear_error(
    encoder: Path, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    with raises("encoder-missing", tmp_path):
        load_encoder(tmp_path)
    damaged = shutil.copytree(encoder / "export", tmp_path / "damaged")
    data = bytearray((damaged / "encoder.safetensors").read_bytes())
    data[-1] ^= 1
    (damaged / "encoder.safetensors").write_bytes(data)
    with raises("damaged", damaged, "encoder.safetensors"):
        load_encoder(damaged)
    made = load_encoder(encoder)
    other = EncoderSizes(**{**vars(made.sizes), "width": 24})
    save_encoder(PhotoEncoder(other), tmp_path / "other", "local")
    pipeline = build_pipeline(str(tiny_model), "cpu")
    with raises("encoder-misfit", made.sizes.model):
        require_fits(load_encoder(tmp_path / "other"), pipeline, tmp_path / "other")
    with raises("encoder-family", "FLUX"):
        require_encodable(FLUX)
    given = {**SETTINGS, "model.name": str(tiny_model), "adapter.encoder": str(encoder)}
    for wrong, code in (
        ({"adapter.name": "p-plus"}, "adapter-start"),
        ({"adapter.name": "textual-inversion", "adapter.vectors": 2}, "settings-conflict"),
        ({"adapter.encoder": str(tmp_path / "no")}, "encoder-missing"),
        ({"adapter.encoder": str(tmp_path / "other")}, "encoder-misfit"),
    ):
        with raises(code):
            personalize(photos, "teapot", output=tmp_path / "run", recipe="dreambooth", settings=given | wrong)
        assert not (tmp_path / "run").exists()


def test_the_mean_word_of_the_photos_and_the_details_of_all(encoder: Path, seen: Tensor) -> None:
    made = load_encoder(encoder)
    both = encode_photos(made, [seen], "cpu")
    each = [encode_photos(made, [one[None]], "cpu") for one in seen]
    assert torch.allclose(both.vectors[0], (each[0].vectors[0] + each[1].vectors[0]) / 2, atol=1e-6)
    assert torch.allclose(both.details[0], torch.cat([one.details[0] for one in each]), atol=1e-5)
    again = load_encoder(encoder / "export")
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True))


def test_the_command_line(
    command_line: Command, encoder: Path, world: Path, photos: Path, tiny_model: Path, clip: str, tmp_path: Path
) -> None:
    trained = tmp_path / "trained"
    words = ["pretrain-encoder", world, "--output", trained, "--model", tiny_model, "--clip", clip]
    status, out, _ = command_line(*words, "--steps", "1", "--batch", "2")
    assert status == 0
    assert "local: exported" in out
    status, _, err = command_line("pretrain-encoder", tmp_path / "no", "--output", tmp_path / "never")
    assert (status, err.count("\n")) == (2, 1)
    assert str(tmp_path / "no") in err
    words = ["generate", "a photo of {} in the snow", "--photos", photos, "--count", "1", "--steps", "2"]
    status, _, err = command_line(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert "pretrain-encoder" in err
    images = tmp_path / "images"
    status, out, err = command_line(*words, "--encoder", encoder, "--class-noun", "teapot", "--output", images)
    assert status == 0, err
    (path,) = images.glob("*-0.png")
    about = read_metadata(path)
    assert about.prompt == "a photo of <sks> teapot in the snow"
    assert [one["adapter"] for one in about.adapters] == ["elite"]
    status, _, err = command_line("generate", tiny_model, "a photo", "--encoder", encoder)
    assert status == 2
    assert "--photos" in err


def test_e4t_starts_from_the_word_and_the_offsets_that_the_encoder_draws_with(
    tiny_model: Path, world: Path, given: dict[str, Any], encoder: Path, seen: Tensor, tmp_path: Path
) -> None:
    options = {name: value for name, value in given.items() if name != "log_every"}
    before = mean_loss(build_training(world, tmp_path, "e4t", **options))
    list(train_encoder(world, tmp_path, "e4t", steps=60, learning_rate=1e-2, **given | {"log_every": 50}))
    run = build_training(world, tmp_path, "e4t", **options)
    load_averaged(tmp_path / "e4t", run.module)
    assert mean_loss(run) < before - 1e-3
    shown = build_pipeline(str(tiny_model), "cpu")
    plain = drawn(shown, "a photo of dog")
    show_photos(shown, tmp_path, seen, "<sks>", "dog")
    expected = drawn(shown)
    assert (drawn(shown, "a photo of dog") != plain).any()  # the offsets change the model
    chosen = {"adapter.encoder": str(tmp_path), "subject.class_noun": "dog", "model.name": str(tiny_model)}
    settings = load_settings("look-forward", chosen | {"adapter.name": "e4t"})
    assert settings.run.steps == 15
    policy = DiffusionPolicy(build_pipeline(str(tiny_model), "cpu"))
    assert check_start(settings, policy) is None
    made = started(build_adapter(settings, seeded(), policy.family), settings, [seen], policy)
    made.attach(policy)
    assert abs(drawn(policy.pipeline).astype(int) - expected.astype(int)).max() <= 1  # peft scales it in another order
    with raises("adapter-start", "e4t"):
        check_start(load_settings("look-forward", chosen | {"adapter.name": "lora"}), policy)
    with raises("adapter-start", "e4t"):
        wrong = {"adapter.name": "e4t", "adapter.encoder": str(encoder)}
        check_start(load_settings("look-forward", chosen | wrong), policy)
