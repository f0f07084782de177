"""Pivotal tuning: a learned word together with a LoRA."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import make_pipeline
from errors import raises
from jobs import SETTINGS, exported, logged
from lookforward import personalize
from lookforward.adapters.lora import LoraAdapter, load_lora
from lookforward.adapters.pivotal import PivotalAdapter, load_pivotal, merge_pivotal
from lookforward.adapters.textual_inversion import load_words
from lookforward.adapters.words import Word
from lookforward.algorithm.trainer import train
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import pipeline_trainer, seeded
from tiny_flux import make_flux

PROMPT = "a photo of <sks> dog"


def pivotal(seed: int = 0, text: bool = False) -> PivotalAdapter:
    return PivotalAdapter((Word("<sks>", "dog"),), LoraAdapter(2, 3.0, text, False, seeded(seed)))


def weights(pipeline: Any) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value.clone()
        for part in ("unet", "text_encoder")
        for name, value in getattr(pipeline, part).state_dict().items()
    }


def draw(pipeline: Any) -> np.ndarray:
    return draw_images(pipeline, [PROMPT], [1], steps=3, guidance=3.0, resolution=32).astype(np.int64)


def disturbed(text: bool = False) -> tuple[PivotalAdapter, DiffusionPolicy]:
    adapter, policy = pivotal(text=text), DiffusionPolicy(make_pipeline())
    generator = seeded(5)
    with torch.no_grad():
        for _, parameter in sorted(adapter.attach(policy).items()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return adapter, policy


@pytest.mark.parametrize("text", [False, True])
def test_word_and_lora_are_trained_and_nothing_else(text: bool) -> None:
    pipeline = make_pipeline()
    policy, before, tokenizer = DiffusionPolicy(pipeline), weights(pipeline), pipeline.tokenizer
    adapter = pivotal(text=text)
    parameters = adapter.attach(policy)
    assert "word.<sks>" in parameters
    assert {name.partition(".")[0] for name in parameters} == {"word", "unet", *(("text_encoder",) if text else ())}
    trained = [p for module in policy.components.values() for p in module.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in parameters.values()}
    adapter.detach(policy)
    after = weights(pipeline)
    assert pipeline.tokenizer is tokenizer
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    def fresh(seed: int = 0) -> Any:
        return pipeline_trainer(DiffusionPolicy(make_pipeline()), pivotal(seed), PROMPT, seed=seed)

    straight = fresh()
    terms = [result.terms for result in train(straight, 4)]
    first = fresh()
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    second = fresh(9)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 4)] == terms[2:]
    assert all(torch.equal(p, straight.parameters[name]) for name, p in second.parameters.items())
    begun = fresh().parameters
    assert all(not torch.equal(p, begun[name]) for name, p in straight.parameters.items())


@pytest.mark.parametrize("text", [False, True])
def test_plain_diffusers_loads_both_files(text: bool, tmp_path: Path) -> None:
    adapter, policy = disturbed(text)
    adapter.export(policy, tmp_path)
    ours = draw(policy.pipeline)
    plain = make_pipeline()
    plain.load_lora_weights(str(tmp_path), weight_name="pytorch_lora_weights.safetensors")
    plain.load_textual_inversion(str(tmp_path), weight_name="learned_embeds.safetensors")
    assert (draw(plain) == ours).all()
    loaded, merged, halves = make_pipeline(), make_pipeline(), make_pipeline()
    load_pivotal(loaded, tmp_path)
    assert (draw(loaded) == ours).all()
    merge_pivotal(merged, tmp_path)
    assert np.abs(draw(merged) - ours).max() <= 1
    load_words(halves, tmp_path)
    word_alone = draw(halves)
    load_lora(halves, tmp_path, 1.0)
    assert (draw(halves) == ours).all()
    assert np.abs(word_alone - ours).mean() > 0.5  # the LoRA is needed too


@pytest.mark.parametrize(
    ("recipe", "reward"), [("look-forward", "look-forward"), ("state-action", "ssim"), ("best", "look-forward + ssim")]
)
def test_a_run_with_any_reward_goes_on_exactly(
    recipe: str, reward: str, tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "model.name": str(tiny_model), **SETTINGS, "adapter.name": "pivotal", "objective.reward": reward,
        "optimizer.ema": 0.9, "objective.preservation": "output", "data.describe": False,
    }  # fmt: skip

    class StopError(Exception):
        pass

    def stop(result: Any) -> None:
        if result.step == 5:
            raise StopError

    personalize(photos, "teapot", recipe=recipe, output=tmp_path / "straight", settings=options)
    with pytest.raises(StopError):
        personalize(photos, "teapot", recipe=recipe, output=tmp_path / "stopped", settings=options, on_step=stop)
    personalize(photos, "teapot", recipe=recipe, output=tmp_path / "stopped", settings=options)
    assert exported(tmp_path / "straight") == exported(tmp_path / "stopped")
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")
    names = {"pytorch_lora_weights.safetensors", "learned_embeds.safetensors"}
    assert names <= exported(tmp_path / "straight").keys()


@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_the_word_may_have_a_rate_of_its_own(rate: float, photos: Path) -> None:
    options: dict[str, Any] = {
        **SETTINGS, "subject.class_noun": "teapot", "model.name": "none", "adapter.name": "pivotal",
        "optimizer.word_learning_rate": rate, "optimizer.warmup": 2,
    }  # fmt: skip
    settings = load_settings("dreambooth", options)
    trainer = build(settings, read_subject(photos, settings), make_pipeline()).trainer
    list(train(trainer, 6))
    rates = {
        name: group["initial_lr"]
        for group in trainer.optimizer.param_groups
        for p in group["params"]
        for name, own in trainer.parameters.items()
        if own is p
    }
    assert rates.keys() == trainer.parameters.keys()
    assert {rates[name] for name in rates if not name.startswith("word.")} == {1e-3}
    assert rates["word.<sks>"] == (rate or 1e-3)


def test_a_model_whose_words_diffusers_does_not_load_says_so(photos: Path) -> None:
    settings = load_settings(
        "dreambooth",
        {**SETTINGS, "subject.class_noun": "teapot", "model.name": "none", "adapter.name": "pivotal"},
    )
    with raises("adapter-family", "learned-words"):
        build(settings, read_subject(photos, settings), make_flux())
