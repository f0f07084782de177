"""Runs that are made longer, given again, or given files of one's own: what is done, and what is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_pipeline, save_image
from errors import raises
from jobs import SETTINGS, Command, as_options, exported, logged, tree
from lookforward import load_personalized, load_settings, personalize
from lookforward.assembly import build
from lookforward.config.recipe import recipe_notes
from lookforward.data.subjects import read_subject
from lookforward.models.sampling import draw_images
from lookforward.scores.measure import MeasureScore


def test_a_finished_run_is_made_longer(train: Any, tmp_path: Path) -> None:
    short, straight = train("run", 2), train("straight", 5)
    before = exported(tmp_path / "run")
    longer = train("run", 5)
    assert exported(tmp_path / "run") == exported(tmp_path / "straight") != before
    assert logged(tmp_path / "run") == logged(tmp_path / "straight")
    assert [path.name for path in (tmp_path / "run" / "exports").iterdir()] == ["step-000002"]
    assert longer.run.settings == straight.run.settings
    assert short.run.folder == longer.run.folder
    with raises("run-differs", "run.steps was 5, now 3"):
        train("run", 3)


def test_a_run_whose_rate_falls_to_its_end_stays_as_long(train: Any) -> None:
    train("run", 2, **{"optimizer.decay": 0.5})
    with raises("run-differs", "run.steps was 2, now 4", "optimizer.decay", "adapter.start"):
        train("run", 4, **{"optimizer.decay": 0.5})


def test_a_finished_run_keeps_its_steps(
    train: Any, photos: Path, tiny_model: Path, tmp_path: Path, command_line: Command
) -> None:
    train("run", 2)
    before = tree(tmp_path / "run")
    given = {**SETTINGS, "model.name": str(tiny_model)}
    del given["run.steps"]
    words = ["train", photos, "--class-noun", "teapot", "--recipe", "dreambooth", "--output", tmp_path / "run"]
    status, out, err = command_line(*words, *as_options(given))
    assert (status, err) == (0, "")
    assert all(fact in out for fact in ("already finished", "run.steps = 2", "--steps"))
    assert tree(tmp_path / "run") == before
    again = personalize(photos, "teapot", output=tmp_path / "run", recipe="dreambooth", settings=given)
    assert again.run.settings.run.steps == 2


def test_renamed_photos_are_the_same_in_another_order(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    dog = tmp_path / "dog"
    shutil.copytree(photos, dog)
    given = {**SETTINGS, "run.steps": 1, "model.name": str(tiny_model)}
    personalize(dog, "teapot", output=tmp_path / "run", settings=given)
    first = min(path for path in dog.iterdir() if path.suffix == ".png")
    first.rename(dog / "z.png")
    with raises("run-differs", "the photos are the same", "order"):
        personalize(dog, "teapot", output=tmp_path / "run", settings=given)


def test_notes_on_drawing_in_python(train: Any, tmp_path: Path) -> None:
    train("run", 1)
    result = load_personalized(tmp_path / "run")
    with pytest.warns(UserWarning, match="does not hold 'sks'"):
        result.generate("a photo of teapot", steps=1)
    with pytest.warns(UserWarning, match="led away from your subject"):
        result.generate("a photo of {identifier} {class_noun}", steps=1, negative="SKS teapot", guidance=2.0)
    for guidance in (0.5, 0.0, -3.0, float("nan"), 1e30):
        with raises("guidance-range", "guidance"):
            result.generate("a photo of {}", steps=1, guidance=guidance)


def test_settings_of_a_run_for_another_adapter(train: Any, tmp_path: Path) -> None:
    train("run", 1, **{"adapter.name": "lora", "adapter.rank": 3})
    file, names = str(tmp_path / "run" / "settings.toml"), {"subject.class_noun": "teapot"}
    (note,) = recipe_notes(file, {**names, "adapter.name": "textual-inversion", "run.steps": 1})
    facts = ("of a run with adapter lora", "textual-inversion", "optimizer.learning_rate = 0.002 for 0.001")
    assert not [fact for fact in facts if fact not in note], note
    assert "run.steps" not in note
    assert recipe_notes(file, names) == recipe_notes("dreambooth", {**names, "adapter.name": "lora"}) == ()


def test_class_images_of_ones_own(train: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "teapots"
    own.mkdir()
    for i in range(3):
        save_image(own / f"{i}.png", i, 32)
    (own / "clip.mov").write_text("")
    monkeypatch.setattr("lookforward.assembly.class_images.class_images", lambda *_, **__: pytest.fail("drew"))
    settings = load_settings("dreambooth", {**SETTINGS, "subject.class_noun": "teapot", "data.class_folder": str(own)})
    components = build(settings, read_subject(photos, settings), make_pipeline())
    drawn = components.class_images
    assert drawn is not None
    assert drawn.examples.prompts == ("a photo of teapot",) * 3
    assert [np.array_equal(drawn.pixels[i], np.asarray(Image.open(own / f"{i}.png"))) for i in range(3)] == [True] * 3
    assert f"3 class images are those of {own}/; not used: clip.mov" in components.notes
    with raises("photos-missing", "nowhere"):
        train("run", 1, **{"data.class_folder": str(tmp_path / "nowhere")})


def test_sample_prompts_of_ones_own_and_a_sheet_of_the_class_images(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a {} in a boat\n{class_noun} with {identifier}\n", encoding="utf-8")
    drawn: list[str] = []

    def draw(pipeline: Any, prompts: list[str], *given: Any, **options: Any) -> Any:
        drawn.extend(prompts)
        return draw_images(pipeline, prompts, *given, **options)

    monkeypatch.setattr("lookforward.assembly.pictures.draw_images", draw)
    train("run", 1, **{"evaluation.prompts": str(file), "evaluation.sample_every": 1})
    assert drawn == ["a sks teapot in a boat", "teapot with sks"]
    with Image.open(tmp_path / "run" / "class-images.png") as sheet:
        assert sheet.width > sheet.height
    file.write_text("# nothing\n", encoding="utf-8")
    with raises("prompts-empty", "prompts.txt"):
        train("other", 1, **{"evaluation.prompts": str(file)})


def test_every_subject_is_scored_and_named(
    photos: Path, tiny_model: Path, tmp_path: Path, command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = tmp_path / "cat"
    cat.mkdir()
    for i in range(3):
        save_image(cat / f"{i}.png", i, 32)
    path = tmp_path / "subjects.toml"
    path.write_text(
        f'[[subject]]\nphotos = "{photos}"\nclass_noun = "teapot"\nidentifier = "sks"\n'
        '[[subject]]\nphotos = "cat"\nclass_noun = "cat"\nidentifier = "zwx"\n'
    )
    given = {**SETTINGS, "run.steps": 1, "model.name": str(tiny_model)}
    personalize(path, output=tmp_path / "run", recipe="dreambooth", settings=given)
    references: list[int] = []

    def build_scores(_: object, photos: np.ndarray, __: object) -> list[Any]:
        references.append(len(photos))
        return [MeasureScore("DINO", lambda images, prompts: torch.full((len(images),), float(len(references))))]

    monkeypatch.setattr("lookforward.assembly.build_evaluators", lambda *_, **__: None)
    monkeypatch.setattr("lookforward.assembly.build_scores", build_scores)
    (tmp_path / "p.txt").write_text(f"a {{}} in a boat\na {{}} {'in the snow ' * 20}\n")
    status, out, err = command_line("score", tmp_path / "run", "--prompts", tmp_path / "p.txt", "--images", 2)
    assert (status, err) == (0, "")
    assert references == [5, 3]
    assert "the model reads the first 30" in out  # of the second prompt
    assert all(line in out for line in ("sks teapot:\nDINO      1.0000", "zwx cat:\nDINO      2.0000"))
    record = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert record["subjects"] == {"sks teapot": {"DINO": 1.0}, "zwx cat": {"DINO": 2.0}}
    assert (record["means"], record["images"]) == ({"DINO": 1.5}, 8)
