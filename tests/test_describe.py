"""Where a photo was taken, expected in its prompt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lookforward.assembly import build, check
from lookforward.assembly.describe import PLACES, describe, find_places
from lookforward.assembly.evaluators import encoder_sources
from lookforward.bundle import require_bundle
from lookforward.config.reading import with_values
from lookforward.config.recipe import load_settings
from lookforward.data.subject import load_subject
from lookforward.data.views import make_views
from lookforward.errors import LookforwardError
from lookforward.models.encoders import load_clip
from lookforward_toybox.subjects import find_subject
from lookforward_toybox.world.picture import draw_picture, draw_view
from lookforward_toybox.world.scenes import SCENES
from tiny import references_of

SETTINGS = {
    "subject.class_noun": "vase",
    "data.describe": True,
    "data.class_images": 1,
    "data.class_image_steps": 1,
    "evaluation.sample_every": 0,
}


@pytest.fixture
def vase(tmp_path: Path) -> Path:
    """Photos of a held-out vase in three scenes that are expected apart at a glance."""
    rng = np.random.default_rng(0)
    for i, scene in enumerate(("snow", "beach", "jungle")):
        assert scene in SCENES
        picture = draw_picture(find_subject("vase-0"), draw_view(rng, scene), rng, 64)
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    return tmp_path


def test_clip_names_most_scenes_of_the_held_out_subjects() -> None:
    clip, places, right = load_clip(encoder_sources("toybox")["clip"]), tuple(SCENES.values()), []
    for name in ("teapot-0", "dog-1", "sneaker-0", "vase-0"):
        subject, rng = find_subject(name), np.random.default_rng(0)
        scenes = [list(SCENES)[i] for i in rng.permutation(len(SCENES))[:5]]
        pictures = np.stack([draw_picture(subject, draw_view(rng, scene), rng, 64) for scene in scenes])
        photos = [type("Photo", (), {"squares": (picture,)}) for picture in pictures]
        loaded: Any = type("Subject", (), {"photos": photos, "class_prompt": f"a photo of {subject.class_noun}"})
        right += [a == SCENES[b] for a, b in zip(find_places(loaded, places, clip), scenes, strict=True)]
    assert np.mean(right) >= 0.8


def test_a_place_that_is_not_likely_is_left_out() -> None:
    clip, subject, rng = load_clip(encoder_sources("toybox")["clip"]), find_subject("dog-0"), np.random.default_rng(0)
    scenes = list(SCENES)
    pictures = np.stack([draw_picture(subject, draw_view(rng, scene), rng, 64) for scene in scenes])
    loaded: Any = type("Subject", (), {
        "photos": [type("Photo", (), {"squares": (picture,)}) for picture in pictures], "class_prompt": "a photo of dog"
    })  # fmt: skip
    for missing in scenes:
        others = tuple(place for scene, place in SCENES.items() if scene != missing)
        found = find_places(loaded, others, clip)
        assert found[scenes.index(missing)] == ""
        assert sum(place != "" for place in found) == len(scenes) - 1


def test_each_photo_is_trained_on_with_its_place_and_without(vase: Path) -> None:
    settings = load_settings("dreambooth", {**SETTINGS, "subject.photos": str(vase)})
    workshop = build(settings, load_subject(vase, class_noun="vase", resolution=64))
    references = references_of(workshop.trainer)
    assert references.prompts == (
        "a photo of sks vase", "a photo of sks vase in the snow",
        "a photo of sks vase", "a photo of sks vase on the beach",
        "a photo of sks vase", "a photo of sks vase in the jungle",
    )  # fmt: skip
    assert references.plain_prompts[2:4] == ("a photo of vase", "a photo of vase on the beach")
    assert torch.equal(references.latents.mean[2], references.latents.mean[3])
    assert "0.png: in the snow" in workshop.notes
    assert workshop.trainer.class_images is not None
    assert set(workshop.trainer.class_images.prompts) == {"a photo of vase"}


def test_a_caption_of_ones_own_stays(vase: Path) -> None:
    (vase / "1.txt").write_text("a {} by the sea")
    expected = describe(load_subject(vase, class_noun="vase", resolution=64), load_settings("best", SETTINGS), "cpu")
    assert [photo.place for photo in expected.photos] == ["in the snow", "", "in the jungle"]
    views = make_views(expected)
    assert [view.prompt for view in views][2:4] == ["a sks vase by the sea"] * 2
    assert len(views) == 6  # two of each photo, so that all are drawn equally often


def test_without_it_all_photos_share_one_prompt(vase: Path) -> None:
    settings = load_settings("dreambooth", {**SETTINGS, "data.describe": False, "subject.photos": str(vase)})
    prompts = build(settings, load_subject(vase, class_noun="vase", resolution=64)).trainer.references.prompts
    assert prompts == ("a photo of sks vase",) * 3


@pytest.mark.parametrize("job", [check, build])
def test_a_clip_that_is_not_there_is_reported_before_anything_is_drawn(
    job: Callable[..., object], vase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(require_bundle().MODELS["toybox"].encoders, "clip", vase / "clip")
    monkeypatch.setattr("lookforward.assembly.class_images.class_images", lambda *_, **__: pytest.fail("drew"))
    settings = load_settings("dreambooth", {**SETTINGS, "subject.photos": str(vase)})
    loaded = load_subject(vase, class_noun="vase", resolution=64)
    with pytest.raises(LookforwardError, match=r"there is no model folder .*clip"):
        job(settings, loaded)
    check(with_values(settings, {"data.describe": False}), loaded)  # which needs none


def test_dpok_refuses_it(vase: Path) -> None:
    settings = load_settings("dpok", {**SETTINGS, "subject.photos": str(vase)})
    with pytest.raises(LookforwardError, match="describe"):
        check(settings, load_subject(vase, class_noun="vase", resolution=64))


def test_places_are_named_once_and_follow_a_noun() -> None:
    assert len(set(PLACES)) == len(PLACES)
    assert all(place.split()[0] in {"on", "in", "at", "by", "among"} for place in PLACES)
