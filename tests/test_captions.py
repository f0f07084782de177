"""Several captions a photo, and draws without one."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import make_pipeline, save_image
from errors import raises
from jobs import SETTINGS, exported, logged
from lookforward.algorithm.examples import Examples
from lookforward.api import personalize
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.data.subject import load_subject
from lookforward.data.subjects import read_subject
from lookforward.data.views import all_prompts_of, caption_notes, make_views
from tiny import PATH, cached, seeded

CAPTIONS = "a {} on a sofa\n\n  a {}   asleep \nin the snow\n"
PROMPTS = ["a sks dog on a sofa", "a sks dog asleep", "sks dog, in the snow"]


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    folder = tmp_path / "dog"
    folder.mkdir()
    for i in range(3):
        save_image(folder / f"{i}.png", i)
    (folder / "0.txt").write_text(CAPTIONS)
    (folder / "1.txt").write_text("a {} in a box")
    return folder


def settings(photos: Path, **values: Any) -> dict[str, Any]:
    return {"subject.class_noun": "dog", "subject.photos": str(photos), **SETTINGS, **values}


def test_each_line_is_a_caption(dog: Path) -> None:
    subject = load_subject(dog, class_noun="dog", resolution=32, caption_lines=True)
    assert [prompt for prompt, _ in all_prompts_of(subject, subject.photos[0])] == PROMPTS
    assert [plain for _, plain in all_prompts_of(subject, subject.photos[0])] == [
        p.replace("sks ", "") for p in PROMPTS
    ]
    assert [prompt for prompt, _ in all_prompts_of(subject, subject.photos[2])] == [subject.prompt]
    (note,) = caption_notes(subject)
    assert "sks dog, in the snow" in note
    joined = load_subject(dog, class_noun="dog", resolution=32)
    assert joined.photos[0].caption == "a {} on a sofa a {} asleep in the snow"
    assert joined.digests == subject.digests


def test_a_scaled_view_says_so_in_each_caption(dog: Path) -> None:
    subject = load_subject(dog, class_noun="dog", resolution=32, caption_lines=True, large=45)
    views = make_views(subject, augment=6)
    assert len(views) == 3 * 7
    for view in views[:7]:
        added = view.prompt.removeprefix(PROMPTS[0])
        assert [prompt for prompt, _ in view.more_prompts] == [prompt + added for prompt in PROMPTS[1:]]
    assert {view.prompt.removeprefix(PROMPTS[0]) for view in views[:7]} > {""}


def test_a_draw_takes_one_caption_at_random() -> None:
    more = (("b", "B"), ("c", "C"))
    examples = Examples(cached(0, count=2), ("a", "z"), ("A", "Z"), more_prompts=(more, ()))
    batch = examples.draw(4000, PATH, seeded(1))
    pairs = Counter(zip(batch.prompts, batch.plain_prompts, strict=True))
    assert pairs.keys() == {("a", "A"), ("b", "B"), ("c", "C"), ("z", "Z")}
    assert 1900 < pairs["z", "Z"] < 2100
    assert all(560 < pairs[one] < 780 for one in pairs if one != ("z", "Z"))
    assert examples.all_prompts == ("a", "z", "b", "c")
    plain = Examples(cached(0, count=2), ("a", "z"), ("A", "Z")).draw(4000, PATH, seeded(1))
    for name in ("x_0", "noise", "timestep"):  # the same photos, noise and timesteps with and without
        assert torch.equal(getattr(plain, name), getattr(batch, name))


def test_captions_are_dropped_in_a_share_of_draws() -> None:
    examples = Examples(cached(0, count=2), ("a", "z"), ("A", "Z"), dropout=0.25)
    batch = examples.draw(4000, PATH, seeded(1))
    assert 900 < batch.prompts.count("") < 1100
    assert set(batch.plain_prompts) == {"A", "Z"}  # rewards still know what the photo shows
    assert "" in examples.all_prompts


@pytest.mark.parametrize("text_encoder", [True, False])
def test_a_run_with_both_goes_on_exactly(text_encoder: bool, dog: Path, tiny_model: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model.name": str(tiny_model), **SETTINGS, "data.caption_lines": True, "data.caption_dropout": 0.4,
        "adapter.name": "lora", "adapter.train_text_encoder": text_encoder, "run.batch_size": 2,
        "objective.preservation": "output",
    }  # fmt: skip

    class StopError(Exception):
        pass

    def stop(result: Any) -> None:
        if result.step == 5:
            raise StopError

    personalize(dog, "dog", output=tmp_path / "straight", settings=options)
    with pytest.raises(StopError):
        personalize(dog, "dog", output=tmp_path / "stopped", settings=options, on_step=stop)
    personalize(dog, "dog", output=tmp_path / "stopped", settings=options)
    assert exported(tmp_path / "straight") == exported(tmp_path / "stopped")
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")


def test_a_run_draws_every_prompt(dog: Path) -> None:
    asked = load_settings(
        "dreambooth", settings(dog, **{"model.name": "none", "data.caption_lines": True, "data.caption_dropout": 0.2})
    )
    trainer = build(asked, read_subject(dog, asked), make_pipeline()).trainer
    drawn = {prompt for _ in range(60) for prompt in trainer.draw(trainer.references, trainer.generator, 4).prompts}
    assert drawn == {*PROMPTS, "a sks dog in a box", "a photo of sks dog", ""}


@pytest.mark.parametrize(("recipe", "adapter"), [("draft", "lora"), ("look-forward", "textual-inversion")])
def test_where_an_empty_prompt_teaches_nothing_it_is_refused(recipe: str, adapter: str, dog: Path) -> None:
    with raises("settings-conflict", "data.caption_dropout"):
        asked = load_settings(
            recipe, settings(dog, **{"model.name": "none", "adapter.name": adapter, "data.caption_dropout": 0.2})
        )
        build(asked, read_subject(dog, asked), make_pipeline())
