"""Stable Diffusion XL is shown each photo's own size and crop in training, and the size to draw in sampling."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from conftest import make_pipeline
from families import SHORT
from lookforward.algorithm.environment import act_on
from lookforward.algorithm.examples import Buckets
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.data.boxes import Cut, cut_to
from lookforward.data.subject import load_subject
from lookforward.data.subjects import read_subject
from lookforward.data.views import make_views, mirrored
from lookforward.models.sampling import draw_images
from tiny import seeded
from tiny_sdxl import make_sdxl

PHOTOS = {"a.png": (90, 64), "b.png": (64, 101), "c.png": (48, 48)}  # width and height
SIDE = 32


def script_sizes(width: int, height: int, resolution: int, flip: bool = False) -> tuple[int, int, int, int]:
    """Original size and crop as train_dreambooth_lora_sdxl of diffusers finds them with --center_crop.

    It resizes as torchvision's `Resize` does, turns the resized photo round, and crops it centrally.
    """
    short, long = sorted((width, height))
    resized_long = int(resolution * long / short)
    resized = (resized_long, resolution) if width > height else (resolution, resized_long)
    columns = list(range(resized[0]))
    columns = columns[::-1] if flip else columns
    y1 = max(0, round((resized[1] - resolution) / 2.0))
    x1 = max(0, round((len(columns) - resolution) / 2.0))
    return height, width, y1, x1


@given(st.integers(32, 6000), st.integers(32, 6000), st.sampled_from([32, 512, 1024]), st.booleans())
def test_a_square_is_counted_as_by_diffusers_script(width: int, height: int, resolution: int, flip: bool) -> None:
    cut = cut_to((width, height), (resolution, resolution))
    assert (cut.mirrored() if flip else cut).sizes == script_sizes(width, height, resolution, flip)


@given(st.integers(32, 6000), st.integers(32, 6000), st.sampled_from([(1024, 1024), (832, 1216), (1536, 640)]))
def test_a_part_fits_into_the_resized_photo(width: int, height: int, part: tuple[int, int]) -> None:
    scale = max(part[0] / width, part[1] / height)
    for place in (0.0, 0.3, 1.0):
        cut = cut_to((width, height), part, place)
        _, _, top, left = cut.sizes
        assert abs(top - place * (height * scale - part[1])) <= 1
        assert abs(left - place * (width * scale - part[0])) <= 1
        _, _, over, before = cut.mirrored().sizes
        assert over == top
        assert abs(left + before + part[0] - width * scale) <= 2  # what was on the left is on the right


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos of different shapes, one of them stored lying."""
    folder = tmp_path / "teapot"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, (width, height) in PHOTOS.items():
        image = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        if name == "b.png":
            exif = Image.Exif()
            exif[0x0112] = 6
            image.transpose(Image.Transpose.ROTATE_90).save(folder / name, exif=exif)
        else:
            image.save(folder / name)
    return folder


def test_photos_know_their_cuts(folder: Path) -> None:
    subject = load_subject(folder, class_noun="teapot", resolution=SIDE)
    found = {photo.path.name: [cut.sizes for cut in photo.cuts] for photo in subject.photos}
    assert found == {name: [script_sizes(*size, SIDE)] for name, size in PHOTOS.items()}
    Image.fromarray(np.zeros((900, 1200, 3), np.uint8) + 90).save(folder / "d.jpg")  # which the decoder shrinks
    Image.linear_gradient("L").resize((1200, 900)).save(folder / "d.jpg")
    subject = load_subject(folder, class_noun="teapot", resolution=SIDE, crops=3)
    cuts = {photo.path.name: [cut.sizes[2:] for cut in photo.cuts] for photo in subject.photos}
    assert subject.photos[3].cuts[0].original == (900, 1200)
    assert cuts["d.jpg"] == [(0, 0), (0, 5), (0, 10)]
    assert cuts["b.png"] == [(0, 0), (9, 0), (18, 0)]  # along the side that is upright
    assert cuts["c.png"] == [(0, 0)]


def test_scaled_views_count_in_their_own_pixels(folder: Path) -> None:
    cut = Cut((64, 90), left=6.5, right=6.5)
    # Twice as large, and cut again 10 pixels below and 20 pixels to the right of the first cut's corner
    assert cut.scaled(2.0, 10, 20, SIDE).sizes == (64, 90, 10, 33)
    # Half as large, at (4, 12) of a grey square, which begins where nothing of the photo is
    assert cut.scaled(0.5, -4, -12, -SIDE // 2).sizes == (64, 90, 0, 0)
    subject = load_subject(folder, class_noun="teapot", resolution=SIDE, large=64)
    for view in make_views(subject, augment=4, flip=True):
        assert view.cut is not None
        height, width, top, left = view.cut.sizes
        assert (width, height) in PHOTOS.values()
        assert min(top, left) >= 0
        again = mirrored(mirrored(view)).cut
        assert again == view.cut


def build_run(folder: Path, **given: Any) -> Any:
    values = {"subject.class_noun": "teapot", "model.name": "none", "adapter.name": "lora", "critic.name": "none"}
    values |= {"objective.prior_weight": 0.0}
    settings = load_settings("dreambooth", SHORT | values | given)
    return build(settings, read_subject(folder, settings), make_sdxl())


def trainer_of(folder: Path, **given: Any) -> Trainer:
    return build_run(folder, **given).trainer


def shown_in(trainer: Trainer, steps: int = 6) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """The time ids of photos and of what follows them in each call of the UNet: of class images."""
    unet: Any = trainer.policy.denoiser  # pyright: ignore[reportAttributeAccessIssue]
    photos: list[tuple[float, ...]] = []
    others: list[tuple[float, ...]] = []

    def note(_: Any, args: Any, named: dict[str, Any], out: Any) -> None:
        ids = [tuple(row) for row in named["added_cond_kwargs"]["time_ids"].tolist()]
        photos.extend(ids[: trainer.batch_size])
        others.extend(ids[trainer.batch_size :])

    hook = unet.register_forward_hook(note, with_kwargs=True)
    list(train(trainer, steps))
    hook.remove()
    return photos, others


def expected(flip: bool = False) -> set[tuple[float, ...]]:
    ways = (False, True) if flip else (False,)
    return {(*script_sizes(*size, SIDE, way), SIDE, SIDE) for size in PHOTOS.values() for way in ways}


@pytest.mark.parametrize("flip", [False, True])
def test_a_run_shows_each_photos_own(flip: bool, folder: Path) -> None:
    photos, others = shown_in(trainer_of(folder, **{"data.flip": flip}), 10)
    assert set(photos) == expected(flip)
    assert others == []


def test_a_note_says_what_is_shown(folder: Path) -> None:
    (note,) = [note for note in build_run(folder).notes if "cropped" in note]
    assert "48x48 to 64x101 pixels" in note


def test_class_images_have_their_own(folder: Path, tmp_path: Path) -> None:
    images = {"objective.preservation": "images", "objective.prior_weight": 1.0}
    photos, others = shown_in(trainer_of(folder, **images))
    assert set(photos) <= expected()
    assert set(others) == {(SIDE, SIDE, 0, 0, SIDE, SIDE)}  # drawn ones are whole
    own = tmp_path / "own"
    own.mkdir()
    Image.linear_gradient("L").resize((70, 40)).save(own / "1.png")
    _, others = shown_in(trainer_of(folder, **images, **{"data.class_folder": str(own)}), 2)
    assert set(others) == {(*script_sizes(70, 40, SIDE), SIDE, SIDE)}


def test_the_untouched_model_is_shown_the_same_photo(folder: Path) -> None:
    output = {"objective.preservation": "output", "objective.prior_weight": 1.0, "run.batch_size": 1}
    trainer = trainer_of(folder, **output)
    photos, others = shown_in(trainer, 4)
    assert set(photos) | set(others) <= expected()
    for step in range(4):  # the photo and, beside it, its class prompt; then the untouched model, alone
        assert photos[2 * step] == photos[2 * step + 1] == others[step]


def test_buckets_show_the_whole_photo_and_their_own_target(folder: Path) -> None:
    trainer = trainer_of(folder, **{"data.buckets": True, "data.flip": True})
    assert isinstance(trainer.references, Buckets)
    photos, _ = shown_in(trainer, 12)
    assert {ids[:2] for ids in photos} == {(height, width) for width, height in PHOTOS.values()}
    for height, width, top, left, down, across in photos:
        scale = max(across / width, down / height)
        assert abs(2 * top - (height * scale - down)) <= 2
        assert abs(2 * left - (width * scale - across)) <= 2
    assert len({ids[4:] for ids in photos}) > 1


@torch.no_grad()
def test_the_loss_is_that_of_the_unet_with_these_sizes(folder: Path) -> None:
    trainer = trainer_of(folder)
    batch = trainer.draw(trainer.references, seeded(3), 4)
    assert batch.sizes is not None
    assert {tuple(map(int, row)) for row in batch.sizes.tolist()} <= {ids[:4] for ids in expected()}
    words = trainer.policy.encode_prompts(batch.prompts)
    transition, _ = act_on(trainer.policy, batch, words)
    pipeline: Any = trainer.policy.pipeline  # pyright: ignore[reportAttributeAccessIssue]

    def predicted(sizes: Tensor) -> Tensor:
        given = {"text_embeds": words.pooled, "time_ids": torch.cat([sizes, torch.full((4, 2), 32.0)], dim=1)}
        x_t = transition.state.x_t
        return pipeline.unet(x_t, batch.timestep, words.tokens, added_cond_kwargs=given, return_dict=False)[0]

    torch.testing.assert_close(transition.action, predicted(batch.sizes), rtol=1e-5, atol=1e-5)
    assert (transition.action - predicted(torch.tensor([[32.0, 32.0, 0.0, 0.0]] * 4))).abs().max() > 1e-3


def test_drawing_asks_for_the_size_that_is_drawn(folder: Path) -> None:
    pipeline, seen = make_sdxl(), []
    hook = pipeline.unet.register_forward_hook(
        lambda _, args, named, out: seen.extend(named["added_cond_kwargs"]["time_ids"].tolist()), with_kwargs=True
    )
    draw_images(pipeline, ["a photo of sks teapot"], [1], steps=2, guidance=3.0, resolution=SIDE)
    hook.remove()
    assert {tuple(ids) for ids in seen} == {(SIDE, SIDE, 0, 0, SIDE, SIDE)}


def test_other_families_are_shown_nothing(folder: Path) -> None:
    settings = load_settings(
        "dreambooth", SHORT | {"subject.class_noun": "teapot", "model.name": "none", "data.class_images": 2}
    )
    trainer = build(settings, read_subject(folder, settings), make_pipeline()).trainer
    batch = trainer.draw(trainer.references, seeded(3), 2)
    assert batch.sizes is None
    assert trainer.policy.encode_prompts(batch.prompts).shown(batch.sizes).extra == {}
