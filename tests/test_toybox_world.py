"""The world that Toybox draws: repeatable, varied, and never showing a held-out subject in pretraining."""

import json
from pathlib import Path

import numpy as np
import pytest

from lookforward.errors import LookforwardError
from lookforward.metrics.oracle import OracleScore
from lookforward.prompts import TOYBOX_PROMPTS
from lookforward.toybox.draw import draw_world
from lookforward.toybox.subjects import find_subject, known_drawing, reference_photos, write_photos
from lookforward.toybox.world.captions import caption
from lookforward.toybox.world.picture import draw_picture, draw_view, drawing
from lookforward.toybox.world.scenes import SCENES, paint_scene
from lookforward.toybox.world.subject import CLASSES, Subject, draw_pretraining_subject, held_out
from lookforward.vision import to_unit


def test_ten_classes_ten_scenes_and_two_held_out_subjects_of_each_class() -> None:
    assert len(CLASSES) == len(SCENES) == 10
    subjects = held_out()
    assert len(subjects) == 20
    assert len({s.key for s in subjects.values()}) == 20
    assert {name.rsplit("-", 1)[0] for name in subjects} == set(CLASSES)
    assert held_out() == subjects


def test_no_held_out_subject_is_drawn_in_pretraining(tmp_path: Path) -> None:
    kept_out = {s.key for s in held_out().values()}
    rng = np.random.default_rng(0)
    assert not kept_out & {draw_pretraining_subject(rng, noun).key for noun in CLASSES for _ in range(3000)}
    draw_world(tmp_path, 40, seed=3, workers=1)
    facts = json.loads((tmp_path / "subjects.json").read_text())
    drawn = [
        Subject(**{k: tuple(v) if isinstance(v, list) else v for k, v in f.items() if k != "scene"}) for f in facts
    ]
    assert len(drawn) == 40
    assert not kept_out & {s.key for s in drawn}
    assert all(drawn[i] == drawn[i + 1] for i in range(0, 40, 2))  # pairs show one subject


def test_the_rejection_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subject that is held out is drawn anew: with its key among the kept-out ones, another comes."""
    first = draw_pretraining_subject(np.random.default_rng(5), "vase")
    monkeypatch.setattr("lookforward.toybox.world.subject._keys", frozenset({first.key}))
    assert draw_pretraining_subject(np.random.default_rng(5), "vase").key != first.key


@pytest.mark.parametrize("noun", CLASSES)
def test_a_seed_draws_the_same_picture(noun: str) -> None:
    subject = find_subject(f"{noun}-0")
    first, again = (draw_picture(subject, draw_view(rng), rng) for rng in (np.random.default_rng(1) for _ in range(2)))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert first.std() > 20  # not a blank


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_vary_and_stay_in_range(scene: str) -> None:
    pictures = [paint_scene(scene, 64, np.random.default_rng(seed)) for seed in range(3)]
    for picture in pictures:
        assert np.isfinite(picture).all()
        assert 0 <= picture.min() <= picture.max() <= 1
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.005


def test_the_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    for workers in (1, 2):
        draw_world(tmp_path / str(workers), 30, seed=9, workers=workers)
    one, two = (np.load(tmp_path / name / "images.npy") for name in "12")
    assert np.array_equal(one, two)


def test_captions_name_the_class_and_never_what_no_words_describe() -> None:
    rng = np.random.default_rng(0)
    for name, subject in held_out().items():
        for scene, words in SCENES.items():
            told = caption(rng, subject, scene)
            assert name.rsplit("-", 1)[0] in told
            assert subject.emblem not in told.split()
            assert all(other not in told for other in SCENES.values() if other != words)
    assert all(any(words in prompt for prompt in TOYBOX_PROMPTS) for words in SCENES.values())


def test_references_show_the_subject_and_the_card_gives_its_drawing(tmp_path: Path) -> None:
    write_photos("vase-1", tmp_path)
    known = known_drawing(tmp_path)
    assert known is not None
    assert np.array_equal(known, drawing(find_subject("vase-1")))
    assert known_drawing(tmp_path / "elsewhere") is None
    with pytest.raises(LookforwardError, match=r"vase-9.*vase-1"):
        find_subject("vase-9")


@pytest.mark.parametrize(("name", "other"), [("teapot-0", "teapot-1"), ("dog-0", "dog-1"), ("can-1", "can-0")])
def test_the_oracle_knows_a_subject_from_another_of_its_class(name: str, other: str) -> None:
    import torch

    score = OracleScore(torch.from_numpy(drawing(find_subject(name))).permute(2, 0, 1))
    own = score(to_unit(reference_photos(name)), [""] * 5)
    others = score(to_unit(reference_photos(other)), [""] * 5)
    assert own.mean() > others.mean() + 0.05
    assert own.mean() > 0.85
