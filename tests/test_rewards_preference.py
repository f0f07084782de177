"""PickScore, HPSv2 and a judge on tiny models of the same classes of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from errors import raises
from lookforward.assembly.environment import find_reward
from lookforward.assembly.evaluators import Evaluators, build_scores, encoder_sources, scores_trained_on
from lookforward.core.specs import Resources
from lookforward.models.encoders import Encoders, to_pixels
from lookforward.models.encoders.judge import QUESTION
from lookforward.rewards.terms import parse_terms
from tiny_captioner import make_llava
from tiny_rewards import PROMPTS, pictures, save_clip, save_vit, with_images


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    words = " ".join([QUESTION.format(prompt=PROMPTS[0]).replace("?", " ?"), "no"])
    return {"preference": save_clip(folder / "clip"), "judge": make_llava(folder / "llava", "yes", words)}


def build(name: str, **sources: str) -> Any:
    spec = find_reward(name)
    assert spec is not None
    return spec.build(name, Resources(Encoders(sources), pictures(2)))


def test_preference_is_the_cosine_of_the_towers(folders: dict[str, Path]) -> None:
    images = pictures()
    reward = build(f"preference:{folders['preference']}")
    found = reward(with_images(images))
    model = CLIPModel.from_pretrained(folders["preference"])
    tokens = CLIPTokenizer.from_pretrained(folders["preference"])(list(PROMPTS), padding=True, return_tensors="pt")
    pixels = reward.measure.encoders.image.preprocess(images)
    with torch.no_grad():
        logits = model(**tokens, pixel_values=pixels).logits_per_image.diagonal()  # PickScore's own number
    torch.testing.assert_close(found.detach(), logits / model.logit_scale.exp().detach(), atol=1e-5, rtol=1e-5)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(reward(with_images(images)).sum(), images)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_judge_says_how_likely_yes_is(folders: dict[str, Path]) -> None:
    images = pictures(2)
    reward = build(f"judge:{folders['judge']}")
    found = reward(with_images(images))
    assert found.shape == (2,)
    assert ((found > 0) & (found <= 1)).all()
    judge = reward.measure
    given = judge.processor(
        images=[to_pixels(images)[0]], text=[f"<image> {QUESTION.format(prompt=PROMPTS[0])} <answer>"],
        return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        logits = judge.model(**given).logits[0, -1].double()
    words = judge.processor.tokenizer.get_vocab()
    expected = torch.sigmoid(logits[words["yes"]] - logits[words["no"]])
    assert found[0].item() == pytest.approx(expected.item(), abs=1e-5)
    assert found[0] > 0.9  # which it has learned to say
    assert not find_reward(f"judge:{folders['judge']}").differentiable  # pyright: ignore[reportOptionalMemberAccess]


def test_the_same_are_scores(folders: dict[str, Path]) -> None:
    clip = str(folders["preference"])
    sources = {"pickscore": clip, "hpsv2": clip, "judge": str(folders["judge"])}
    evaluators = Evaluators(Encoders(sources, published=True), ("pickscore", "hpsv2", "judge"))
    images = pictures(2)
    scores = build_scores(evaluators, to_pixels(images))
    values = {score.name: score(images, PROMPTS[:2]) for score in scores}
    assert list(values) == ["PickScore", "HPSv2", "VLM judge"]
    assert torch.equal(values["PickScore"], values["HPSv2"])
    assert all(len(value) == 2 for value in values.values())


def test_a_reward_of_the_kind_marks_the_scores() -> None:
    sources = encoder_sources("toybox")
    assert scores_trained_on(["preference:someone/clip"], sources) == ("PickScore", "HPSv2")
    assert scores_trained_on(["judge:someone/vlm", "dino"], sources) == ("DINO", "VLM judge")


def test_a_model_has_its_revision_behind_it(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    text = "dino + 0.5*preference:yuvalkirstain/PickScore_v1@a1b2"
    assert parse_terms(text)[1] == (0.5, "preference:yuvalkirstain/PickScore_v1@a1b2")
    asked = []

    def local(source: str, **given: str) -> Path:
        asked.append((source, given["revision"]))
        return folders["preference"]

    monkeypatch.setattr("lookforward.models.encoders.loaded.local_folder", local)
    build("preference:yuvalkirstain/PickScore_v1@a1b2")
    build("preference:adams-story/HPSv2-hf")
    assert asked == [("yuvalkirstain/PickScore_v1", "a1b2"), ("adams-story/HPSv2-hf", "")]


def test_models_that_cannot_be_asked_are_named(tmp_path: Path, folders: dict[str, Path]) -> None:
    with raises("judge-model", "clip", "SmolVLM"):
        build(f"judge:{folders['preference']}")
    with raises("model-missing", tmp_path / "none"):
        build(f"judge:{tmp_path / 'none'}")
    with pytest.raises(Exception, match="cannot be loaded"):
        build(f"preference:{save_vit(tmp_path / 'vit')}")
