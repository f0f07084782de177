"""Words, exports and folders that could be misread: what is done with them, and what is said."""

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
from lookforward import Personalized, load_personalized, load_settings, personalize
from lookforward.adapters.textual_inversion import write_single_words
from lookforward.assembly import build
from lookforward.benchmark.methods import grid_methods, unread_notes
from lookforward.data.prompts import clip_text, cut_note, names_subject, overlap, spelled
from lookforward.data.subjects import read_subject
from lookforward.exports.card import CARD
from lookforward.exports.convert import convert
from lookforward.exports.load import apply_export, load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import Source, find_adapter, find_source, notes_on
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.sampling import draw_images
from lookforward.scores.measure import MeasureScore


def letters(text: str) -> list[int]:
    """A tokenizer of words, in lower case, whose unknown words end in a known one, as byte pairs do."""
    known = {"a": 1, "photo": 2, "of": 3, "sks": 4, "dog": 5, "hot": 6, "row": 7}
    ids: list[int] = []
    for word in text.lower().split():
        ids += [known[word]] if word in known else [9, 4] if word.endswith("sks") else [9]
    return ids


@pytest.mark.parametrize(
    ("prompt", "room", "named"),
    [
        ("a photo of sks dog", 5, True),
        ("a photo of SKS dog", 5, True),
        ("a photo of sks dog", 3, False),  # cut off
        ("a row of desks", 9, False),  # whose last piece has the identifier's token
        ("a photo of dog", 9, False),
    ],
)
def test_who_is_the_subject(prompt: str, room: int, named: bool) -> None:
    assert names_subject(letters, prompt, "sks", room) is named


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [("sks", "dog", False), ("hot", "hot dog", True), ("a photo of dog", "dog", True), ("sks dog", "SKS", True)],
)
def test_words_that_contain_one_another(first: str, second: str, both: bool) -> None:
    assert overlap(letters, first, second) is both


def test_the_identifier_in_any_case_is_written_in_its_own() -> None:
    assert spelled("a photo of <SKS> beside desks", "<sks>") == "a photo of <sks> beside desks"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a photo of {identifier} {class_noun} in the snow", "a photo of dog in the snow"),
        ("a photo of sks dog in the snow", "a photo of dog in the snow"),
        ("a photo of SKS in the snow", "a photo of dog in the snow"),
        ("desks in the snow", "desks in the snow"),
    ],
)
def test_clip_sees_no_identifier_however_it_is_written(template: str, text: str) -> None:
    assert clip_text(template, "sks", "dog") == text


def test_clip_may_see_it() -> None:
    assert clip_text("{identifier} {class_noun}", "sks", "dog", keep_identifier=True) == "sks dog"


def test_texts_that_are_cut() -> None:
    (note,) = cut_note(letters, "the negative prompt", "a photo of dog", 3)
    assert all(fact in note for fact in ("negative prompt", "4 tokens", "3"))
    assert cut_note(letters, "it", "a photo", 2) == ()


@pytest.fixture
def train(tiny_model: Path, photos: Path, tmp_path: Path) -> Any:
    def call(name: str, steps: int, **given: Any) -> Personalized:
        settings = {**SETTINGS, "model.name": str(tiny_model), **given, "run.steps": steps}
        return personalize(photos, "teapot", output=tmp_path / name, recipe="dreambooth", settings=settings)

    return call


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


def test_settings_that_no_method_of_a_grid_reads() -> None:
    given = {"critic.weight": 5.0, "objective.stride": 50}
    alone = unread_notes(grid_methods(("dreambooth",), ("full",), given), given)
    assert any("critic.weight = 5.0" in note for note in alone)
    both = unread_notes(grid_methods(("dreambooth", "look-forward"), ("full",), given), given)
    assert not any("critic.weight" in note for note in both)
    assert any("objective.stride = 50" in note for note in both)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -11])
def test_strengths_at_every_door(strength: float, tmp_path: Path) -> None:
    one = source("a")
    for use in (
        lambda: merge([(one, strength)], tmp_path / "out"),
        lambda: load_export(tmp_path, strength=strength),
        lambda: apply_export(None, tmp_path, strength),  # pyright: ignore[reportArgumentType]
        lambda: find_adapter("a", strength),
        lambda: find_adapter(f"a:{strength}"),
    ):
        with raises("strength-range", strength):
            use()


def test_renamed_photos_are_the_same_in_another_order(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    dog = tmp_path / "dog"
    shutil.copytree(photos, dog)
    given = {**SETTINGS, "run.steps": 1, "model.name": str(tiny_model)}
    personalize(dog, "teapot", output=tmp_path / "run", settings=given)
    first = min(path for path in dog.iterdir() if path.suffix == ".png")
    first.rename(dog / "z.png")
    with raises("run-differs", "the photos are the same", "order"):
        personalize(dog, "teapot", output=tmp_path / "run", settings=given)


def test_a_mistyped_run_is_not_looked_for_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "dog-look-forward").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with raises("run-missing", "dgo-look-forward", "runs/dog-look-forward"):
        find_source("runs/dgo-look-forward")
    assert find_source("owner/name").folder is None


def source(name: str, **manifest: Any) -> Source:
    known = {"adapter": "lora", "identifier": "sks", "model": "base", "model_hash": "1"}
    return Source(name, {**known, **manifest}, Path(name))


def test_a_moved_base_model_of_the_same_weights_is_the_same() -> None:
    first, moved = source("a"), source("b", identifier="zwx", model="elsewhere")
    assert notes_on(first, [(moved, 1.0)]) == ()
    (note,) = notes_on(first, [(source("b", identifier="zwx", model="elsewhere", model_hash="2"), 1.0)])
    assert "elsewhere" in note


def test_two_loras_of_one_identifier() -> None:
    (note,) = notes_on(source("a"), [(source("b", identifier="SKS"), 1.0)])
    assert all(fact in note for fact in ("a and b", "'sks'"))


def test_the_card_of_a_file_for_a1111_calls_the_word_as_it_is_called_there(train: Any, tmp_path: Path) -> None:
    result = train("run", 1, **{"adapter.name": "textual-inversion", "subject.identifier": "<sks>"})
    convert(result.source, "a1111", tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    assert "- a photo of sks on the beach" in card
    assert "a photo of \\<sks" not in card
    write_single_words(result.run.export, tmp_path)
    assert (tmp_path / "sks.safetensors").is_file()


def test_a_folder_of_half_precision_alone_is_whole(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path, variant="fp16")
    loaded = load_pipeline(tmp_path)
    assert all(p.dtype.is_floating_point and p.element_size() == 4 for p in loaded.unet.parameters())
    one = draw_images(loaded, ["a dog"], [0], steps=2, guidance=1.0)
    same = draw_images(pipeline.to(dtype=torch.float32), ["a dog"], [0], steps=2, guidance=1.0)
    assert np.abs(one.astype(int) - same).max() <= 1


def test_an_index_of_another_model(tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path)
    (tmp_path / "unet").rename(tmp_path / "transformer")
    with raises("model-index-wrong", "model_index.json", "transformer"):
        load_pipeline(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"


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


def test_class_images_of_ones_own(train: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "teapots"
    own.mkdir()
    for i in range(3):
        save_image(own / f"{i}.png", i, 32)
    monkeypatch.setattr("lookforward.assembly.class_images.class_images", lambda *_, **__: pytest.fail("drew"))
    settings = load_settings("dreambooth", {**SETTINGS, "subject.class_noun": "teapot", "data.class_folder": str(own)})
    components = build(settings, read_subject(photos, settings), make_pipeline())
    drawn = components.class_images
    assert drawn is not None
    assert drawn.examples.prompts == ("a photo of teapot",) * 3
    assert [np.array_equal(drawn.pixels[i], np.asarray(Image.open(own / f"{i}.png"))) for i in range(3)] == [True] * 3
    assert any("3" in note and str(own) in note for note in components.notes)
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
    (tmp_path / "p.txt").write_text("a {} in a boat\n")
    status, out, err = command_line("score", tmp_path / "run", "--prompts", tmp_path / "p.txt", "--images", 2)
    assert (status, err) == (0, "")
    assert references == [5, 3]
    assert all(line in out for line in ("sks teapot:\nDINO      1.0000", "zwx cat:\nDINO      2.0000"))
    record = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert record["subjects"] == {"sks teapot": {"DINO": 1.0}, "zwx cat": {"DINO": 2.0}}
    assert (record["means"], record["images"]) == ({"DINO": 1.5}, 4)
