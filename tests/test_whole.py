"""Every changed byte is noticed: in folders with digests, and in sealed files."""

import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from errors import raises
from lookforward.algorithm.trainer import train
from lookforward.errors import LookforwardWarning
from lookforward.runs.checkpoint import load_newest, save_checkpoint, set_damaged_aside
from lookforward.whole import SUMS, check_whole, png_state, require_whole, seal_png, whole_folder, write_sealed_tensors
from tiny import tiny_trainer


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << (place % 8)
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with whole_folder(tmp_path / "export") as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "weights.bin").write_bytes(bytes(range(200)))
        (partial / "README.md").write_text("A card.")
    return tmp_path / "export"


def test_a_whole_folder_passes_and_an_edited_card_is_a_note(folder: Path) -> None:
    assert [one.state for one in check_whole(folder)] == ["whole"]
    (folder / "README.md").write_text("Another card.")
    with pytest.warns(LookforwardWarning, match=r"README\.md"):
        require_whole(folder, "The export", "", expected=True)


@pytest.mark.parametrize("name", ["sub/weights.bin", SUMS])
def test_every_flip_is_noticed(folder: Path, name: str) -> None:
    before = (folder / name).read_bytes()
    for place in range(len(before)):
        flip(folder / name, place)
        assert [one.state for one in check_whole(folder)] == ["damaged"], place
        (folder / name).write_bytes(before)
    (folder / name).unlink()
    with raises("damaged", folder, Path(name).name):
        require_whole(folder, "The export", "", expected=True)


def test_a_folder_of_an_earlier_version_is_a_note(folder: Path) -> None:
    (folder / SUMS).unlink()
    with pytest.warns(LookforwardWarning, match=SUMS):
        require_whole(folder, "The export", "", expected=False)


def test_sealed_files_notice_every_flip_and_every_cut(tmp_path: Path) -> None:
    image, tensors = tmp_path / "encoded" / "a.png", tmp_path / "encoded" / "a.safetensors"
    image.parent.mkdir()
    Image.new("RGB", (8, 8), "red").save(image)
    assert png_state(image.read_bytes()) == "unknown"
    image.write_bytes(seal_png(image.read_bytes()))
    write_sealed_tensors(tensors, {"a": torch.arange(9.0)}, {"about": "x"})
    assert [one.state for one in check_whole(tmp_path)] == ["whole", "whole"]
    for path in (image, tensors):
        before = path.read_bytes()
        for place in range(len(before)):
            flip(path, place)
            assert check_whole(path)[0].state != "whole", place
            path.write_bytes(before[:place])
            assert check_whole(path)[0].state != "whole", place
            path.write_bytes(before)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", SUMS])
def test_a_flipped_byte_in_the_newest_checkpoint_takes_the_one_before(tmp_path: Path, file: str) -> None:
    trainer = tiny_trainer(critic="adam")
    list(train(trainer, 2))
    save_checkpoint(trainer, tmp_path)
    list(train(trainer, 4))
    newer = save_checkpoint(trainer, tmp_path)
    before = (newer / file).read_bytes()
    for place in random.Random(0).sample(range(len(before)), 12):
        flip(newer / file, place)
        again = tiny_trainer(critic="adam")
        with pytest.warns(LookforwardWarning, match="step-000004 was passed over"):
            assert load_newest(again, tmp_path)
        assert again.step == 2
        (newer / file).write_bytes(before)
    set_damaged_aside(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-step-000004", "step-000002"]


@pytest.mark.parametrize("damage", ["nan", "renamed", "list", "hash"])
def test_a_bad_checkpoint_without_digests_is_passed_over(tmp_path: Path, damage: str) -> None:
    """As an earlier version wrote them: what the digests would have noticed is noticed by what it holds."""
    trainer = tiny_trainer()
    for steps in (2, 4):
        list(train(trainer, steps))
        newer = save_checkpoint(trainer, tmp_path, "a1")
        (newer / SUMS).unlink()
        record = newer / "state.json"
        record.write_text(record.read_text().replace('"format": 5', '"format": 4'))
    match damage:
        case "list":
            record.write_text("[]")
        case "hash":
            record.write_text(record.read_text().replace("a1", "b1"))
        case _:
            tensors = load_file(newer / "state.safetensors")
            key = "optimizer/0/exp_avg"
            if damage == "nan":
                tensors[key].view(-1)[0] = float("nan")
            else:
                tensors["optimizer/0/exp_avh"] = tensors.pop(key)
            save_file(tensors, newer / "state.safetensors")
    again = tiny_trainer()
    with pytest.warns(LookforwardWarning, match="step-000004 was passed over"):
        assert load_newest(again, tmp_path, "a1")
    assert again.step == 2
    list(train(again, 3))


def test_a_checkpoint_under_another_step_is_refused(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    list(train(trainer, 1))
    save_checkpoint(trainer, tmp_path).rename(tmp_path / "step-000002")
    with raises("checkpoint-unusable", "step 1"):
        load_newest(tiny_trainer(), tmp_path)


@pytest.mark.parametrize("rate", [1e30, float("nan")])
def test_ruined_weights_stop_the_training_and_are_not_saved(tmp_path: Path, rate: float) -> None:
    trainer = tiny_trainer(critic="none")
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    with raises("diverged", "Step 1"):
        list(train(trainer, 1))
    with torch.no_grad():
        next(iter(trainer.parameters.values())).fill_(float("nan"))
    with raises("not-finite", "policy/"):
        save_checkpoint(trainer, tmp_path)
    assert not list(tmp_path.iterdir())
