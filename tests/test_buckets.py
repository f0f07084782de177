"""Photos in buckets of their own shape."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import make_pipeline
from errors import raises
from jobs import SETTINGS, exported, logged
from lookforward.algorithm.examples import Buckets, Examples
from lookforward.algorithm.trainer import train
from lookforward.api import personalize
from lookforward.assembly import build
from lookforward.config.reading import structure
from lookforward.config.recipe import load_settings
from lookforward.core.types import State
from lookforward.data.buckets import bucket_sizes, cut_share, in_buckets, nearest_bucket, read_resolutions
from lookforward.data.subject import Subject, load_subject
from lookforward.data.subjects import read_subject
from lookforward.models.policy import DiffusionPolicy
from tiny import PATH, cached, seeded
from tiny_sdxl import make_sdxl

OPTIONS: dict[str, Any] = {
    **SETTINGS, "subject.class_noun": "dog", "model.name": "none", "data.buckets": True, "evaluation.sample_every": 0,
}  # fmt: skip


def rows_and_columns(width: int, height: int) -> np.ndarray:
    """A photo whose red is the share of its height above a pixel, and whose green that of its width on its left."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, height).round().astype(np.uint8)[:, None]
    pixels[..., 1] = np.linspace(0, 255, width).round().astype(np.uint8)
    return pixels


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    """Two portraits, one of them stored lying, and a square; the first with a mask of its lowest tenth."""
    folder = tmp_path / "dog"
    folder.mkdir()
    Image.fromarray(rows_and_columns(240, 400)).save(folder / "0.png")
    mask = np.zeros((400, 240), np.uint8)
    mask[360:] = 255
    Image.fromarray(mask).save(folder / "0.mask.png")
    lying = Image.fromarray(rows_and_columns(240, 400)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(folder / "1.png", exif=exif)
    Image.fromarray(rows_and_columns(300, 300)).save(folder / "2.png")
    return folder


def load(folder: Path, resolution: int = 32) -> Subject:
    return load_subject(folder, class_noun="dog", resolution=resolution, buckets=True)


@given(st.sampled_from([(512, 64), (1024, 64), (1024, 32), (64, 16)]), st.floats(0.25, 4.0))
def test_a_photo_loses_no_more_than_is_said(how: tuple[int, int], aspect: float) -> None:
    resolution, unit = how
    buckets, size = bucket_sizes(resolution, unit), (round(4000 * aspect), 4000)
    chosen = nearest_bucket(size, buckets)
    assert cut_share(size, chosen) <= (1.0 if 0.5 <= aspect <= 2 else 1.25) * unit / resolution
    assert all(side % unit == 0 for side in chosen)
    assert abs(chosen[0] * chosen[1] / resolution**2 - 1) <= unit / resolution
    assert all(cut_share(size, chosen) <= cut_share(size, other) for other in buckets)


def test_a_portrait_is_not_cut_to_a_square(dog: Path) -> None:
    subject = in_buckets(load(dog, 512), [512], 64)
    size = nearest_bucket((240, 400), bucket_sizes(512, 64))
    assert size == (384, 640)
    for photo in subject.photos[:2]:
        (pixels,) = photo.squares
        assert pixels.shape == (640, 384, 3)
        assert (pixels[0, :, 0] <= 3).all()  # the upper end and the lower one, the left and the right
        assert (pixels[-1, :, 0] >= 252).all()
        assert (pixels[:, 0, 1] <= 3).all()
        assert (pixels[:, -1, 1] >= 252).all()
        assert photo.pixels.shape == (512, 512, 3)  # what is scored stays a square
    assert subject.photos[2].squares[0].shape == (512, 512, 3)


def test_what_is_cut_is_as_much_as_is_said(dog: Path) -> None:
    Image.fromarray(rows_and_columns(200, 300)).save(dog / "2.png")
    size = nearest_bucket((200, 300), bucket_sizes(512, 64))
    share = cut_share((200, 300), size)
    assert 0 < share <= 64 / 512
    (pixels,) = in_buckets(load(dog, 512), [512], 64).photos[2].squares
    assert pixels.shape == (size[1], size[0], 3)
    shown = [(float(pixels[:, :, c].max()) - float(pixels[:, :, c].min())) / 255 for c in (0, 1)]
    assert min(shown) == pytest.approx(1 - share, abs=0.02)
    assert max(shown) == pytest.approx(1, abs=0.02)


def test_the_mask_follows(dog: Path) -> None:
    subject = in_buckets(load(dog), [32, 64], 8)
    photo = subject.photos[0]
    assert [square.shape[:2] for square in photo.squares] == [mask.shape for mask in photo.masks]
    assert [square.shape[0] for square in photo.squares] == [40, 80]
    for mask in photo.masks:
        assert mask[-3:].min() == 255
        assert mask[: int(0.85 * len(mask))].max() == 0
    with raises("mask-empty", "0.mask.png"):  # it lies outside the central square
        load_subject(dog, class_noun="dog", resolution=32)


def test_a_batch_is_drawn_from_one_bucket_each_as_often_as_it_has_photos() -> None:
    parts = (Examples(cached(0, 3, size=8), ("a",) * 3), Examples(cached(1, 1, size=4), ("b",)))
    buckets = Buckets(parts)
    batches = [buckets.draw(2, PATH, seeded(i)) for i in range(400)]
    counts = Counter(batch.prompts for batch in batches)
    assert counts.keys() == {("a", "a"), ("b", "b")}
    assert 270 < counts["a", "a"] < 330
    assert buckets.shape == (4, 8, 8)
    assert {tuple(batch.x_0.shape) for batch in batches} == {(2, 4, 8, 8), (2, 4, 4, 4)}


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("look-forward", {}),
        ("state-action", {"objective.reward": "look-forward + 0.1*ssim", "objective.preservation": "output"}),
        ("dreambooth", {"data.bucket_resolutions": "48", "data.flip": True, "run.batch_size": 2}),
    ],
)
def test_a_run_in_two_buckets_goes_on_exactly(recipe: str, more: dict[str, Any], dog: Path, tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path / "model")
    options = {**OPTIONS, "model.name": str(tmp_path / "model"), **more}
    noun = options.pop("subject.class_noun")

    class StopError(Exception):
        pass

    def stop(result: Any) -> None:
        if result.step == 5:
            raise StopError

    personalize(dog, noun, recipe=recipe, output=tmp_path / "straight", settings=options)
    with pytest.raises(StopError):
        personalize(dog, noun, recipe=recipe, output=tmp_path / "stopped", settings=options, on_step=stop)
    personalize(dog, noun, recipe=recipe, output=tmp_path / "stopped", settings=options)
    assert exported(tmp_path / "straight") == exported(tmp_path / "stopped")
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")
    assert all(np.isfinite(row["loss"]) for row in logged(tmp_path / "straight"))


@pytest.mark.parametrize("critic", ["residual", "state-action"])
def test_every_shape_reaches_critic_and_reward(critic: str, dog: Path) -> None:
    asked = load_settings("look-forward", {**OPTIONS, "critic.name": critic, "objective.reward": "ssim"})
    trainer = build(asked, read_subject(dog, asked), make_pipeline()).trainer
    assert isinstance(trainer.references, Buckets)
    seen: set[torch.Size] = set()
    act = trainer.policy.act
    trainer.policy.act = lambda state: seen.add(state.x_t.shape[-2:]) or act(state)  # pyright: ignore[reportAttributeAccessIssue]
    rows = [result.terms for result in train(trainer, 6)]
    assert seen == {torch.Size([10, 6]), torch.Size([8, 8])}
    assert all(-1 <= row["reward"] <= 1 and row["critic_loss"] >= 0 for row in rows)


def test_without_buckets_and_with_one_there_is_no_difference(dog: Path) -> None:
    for i in range(2):
        (dog / f"{i}.png").unlink()
    Image.fromarray(rows_and_columns(64, 64)).save(dog / "3.png")
    (dog / "0.mask.png").unlink()
    parts = []
    for buckets in (True, False):
        asked = load_settings("dreambooth", {**OPTIONS, "data.buckets": buckets, "data.allow_few": True})
        parts.append(build(asked, read_subject(dog, asked), make_pipeline()).trainer.references)
    bucketed, squares = parts
    assert isinstance(bucketed, Examples)
    assert isinstance(squares, Examples)
    assert torch.equal(bucketed.latents.mean, squares.latents.mean)


def test_stable_diffusion_xl_is_shown_the_size_of_the_bucket() -> None:
    pipeline = make_sdxl()
    policy = DiffusionPolicy(pipeline)
    sizes: list[torch.Tensor] = []
    forward = pipeline.unet.forward

    def spy(*args: Any, **named: Any) -> Any:
        sizes.append(named["added_cond_kwargs"]["time_ids"])
        return forward(*args, **named)

    pipeline.unet.forward = spy
    x_t = torch.randn(1, 4, 10, 6, generator=seeded())
    state = State(x_t, torch.tensor([300]), policy.encode_prompts(["a photo of a dog"]))
    with torch.no_grad():
        assert policy.act(state).shape == x_t.shape
    factor = pipeline.vae_scale_factor
    assert sizes[0].tolist() == [[10.0 * factor, 6.0 * factor, 0.0, 0.0, 10.0 * factor, 6.0 * factor]]


def test_settings_that_do_not_go_together() -> None:
    for other in ({"data.crops": 3}, {"data.augment": True}):
        with raises("settings-conflict", "data.buckets"):
            structure({"data.buckets": True, **other}, "a test")
    assert read_resolutions(64, "32, 64,128") == [64, 32, 128]
    with raises("setting-range", "data.bucket_resolutions"):
        read_resolutions(64, "large")


def test_a_resolution_that_does_not_fit_is_named(dog: Path) -> None:
    asked = load_settings("dreambooth", {**OPTIONS, "data.bucket_resolutions": "44"})
    with raises("resolution-does-not-fit", "44"):
        build(asked, read_subject(dog, asked), make_pipeline())
