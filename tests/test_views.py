"""What a step is shown of the photos: captions, masks, mirror images, crops, scaled views, several subjects."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_pipeline, save_image
from errors import raises
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly import build
from lookforward.assembly.training import TrainingJob
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.core.types import Transition
from lookforward.data.mask_weights import latent_weights
from lookforward.data.photo import squares_along
from lookforward.data.subject import Subject, load_subject
from lookforward.data.subjects import name_subjects, read_subject, subjects_of
from lookforward.data.views import caption_notes, make_views, prompts_of, scaled
from lookforward.exports.card import CARD
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.noise import NoiseReward
from lookforward.rewards.per_subject import PerSubjectReward
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import ResidualCritic, random_transition, references_of, seeded

SIDE = 32


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    """A folder of three photos, 96×48 pixels, black on the left and white on the right."""
    folder = tmp_path / "dog"
    folder.mkdir()
    pixels = np.zeros((48, 96, 3), np.uint8)
    pixels[:, 48:] = 255
    for i in range(3):
        pixels[0, 0, 0] = i
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def mask(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (96, 48)) -> None:
    """White within left, top, right, bottom."""
    image = Image.new("L", size)
    image.paste(255, box)
    image.save(path)


def load(folder: Path, **settings: Any) -> Subject:
    return load_subject(folder, class_noun="dog", resolution=SIDE, **settings)


def settings(**overrides: Any) -> Settings:
    base = {
        "subject.class_noun": "dog",
        "data.resolution": SIDE,
        "data.class_images": 1,
        "data.class_image_steps": 1,
        "evaluation.sample_every": 0,
    }
    return load_settings("look-forward", {**base, "model.name": "none", "optimizer.learning_rate": 1e-3, **overrides})


def trainer_of(photos: Path, **overrides: Any) -> Trainer:
    config = settings(**name_subjects(photos, overrides | ({} if photos.suffix else {"subject.class_noun": "dog"})))
    return build(config, read_subject(photos, config), make_pipeline()).trainer


# Captions


@pytest.mark.parametrize(
    ("caption", "noun_in_prompt", "prompt", "plain"),
    [
        ("a {} on a red sofa", True, "a sks dog on a red sofa", "a dog on a red sofa"),
        ("a {} on\na  red sofa\n", False, "a sks on a red sofa", "a dog on a red sofa"),
        ("SKS dog, asleep", True, "sks dog, asleep", "dog, asleep"),
        ("sks, asleep", False, "sks, asleep", "dog, asleep"),
        ("asleep on a sofa", True, "sks dog, asleep on a sofa", "dog, asleep on a sofa"),
        ("asleep, unlike sksy", False, "sks, asleep, unlike sksy", "dog, asleep, unlike sksy"),
    ],
)
def test_a_caption_is_the_prompt_of_its_photo(
    dog: Path, caption: str, noun_in_prompt: bool, prompt: str, plain: str
) -> None:
    (dog / "1.txt").write_text(caption, encoding="utf-8-sig")
    subject = load(dog, noun_in_prompt=noun_in_prompt)
    assert prompts_of(subject, subject.photos[1]) == (prompt, plain)
    assert prompts_of(subject, subject.photos[0]) == (subject.prompt, subject.class_prompt)
    notes = caption_notes(subject)
    assert len(notes) == caption.startswith("asleep")
    assert all("1.png" in note and prompt in note for note in notes)
    without = load(dog, noun_in_prompt=noun_in_prompt, captions=False)
    assert [view.prompt for view in make_views(without)] == [subject.prompt] * 3


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b" \n", "caption-empty"),
        (b"\xff\xfe\x00", "caption-text"),
        (b"a\0b", "caption-text"),
        (b"a {noun}", "caption-brace"),
    ],
)
def test_captions_that_cannot_be_used(dog: Path, data: bytes, code: str) -> None:
    (dog / "1.txt").write_bytes(data)
    with raises(code, dog / "1.png", "1.txt"):
        load(dog)


def test_each_sample_is_drawn_with_the_prompt_of_its_photo(dog: Path) -> None:
    for i in range(3):
        save_image(dog / f"{i}.png", i)
        (dog / f"{i}.txt").write_text(f"a {{}} number {i}")
    trainer = trainer_of(dog, **{"run.batch_size": 8})
    batch = trainer.draw(trainer.references, trainer.generator)
    assert len(set(batch.prompts)) > 1
    # x_0 is the photo that its prompt tells of: nearest to that photo's latents
    latents = references_of(trainer).latents
    means = latents.mean * latents.scaling
    nearest = [int(((means - x_0) ** 2).sum(dim=(1, 2, 3)).argmin()) for x_0 in batch.x_0]
    assert [f"a sks dog number {i}" for i in nearest] == list(batch.prompts)
    assert all(
        plain == prompt.replace("sks ", "") for prompt, plain in zip(batch.prompts, batch.plain_prompts, strict=True)
    )


# Masks


def test_a_mask_of_ones_changes_no_bit() -> None:
    plain = random_transition(seeded(), 3)
    ones = replace(plain, mask=torch.ones(3, 1, 8, 8))
    critic = ResidualCritic(4, 8, 8, generator=seeded(1))
    assert torch.equal(plain.masked(plain.action), ones.masked(plain.action))
    for judge in (LookForwardReward(), NoiseReward(), critic):
        assert torch.equal(judge(plain), judge(ones))


@pytest.mark.parametrize("background", [0.0, 0.3])
def test_a_mask_weighs_every_error(dog: Path, background: float) -> None:
    mask(dog / "0.mask.png", (24, 0, 48, 48))  # the left half of the central square
    views = make_views(load(dog))
    weight = latent_weights(views, 8, 8, background)
    assert weight is not None
    assert weight.shape == (3, 1, 8, 8)
    assert torch.equal(weight[1:], torch.ones(2, 1, 8, 8))  # photos without a mask count as they did
    assert torch.allclose(weight[0, 0, :, 4:], background * weight[0, 0, :, :4])
    assert weight[0].mean().item() == pytest.approx(1)
    transition = random_transition(seeded(), 1)
    error = (transition.action - transition.noise) ** 2
    share = torch.cat([torch.ones(8, 4), torch.full((8, 4), background)], dim=1)
    expected = ((error * share).sum() / (4 * share.sum())).item()  # the weighted mean
    masked = replace(transition, mask=weight[:1])
    assert masked.masked(error).mean().item() == pytest.approx(expected, rel=1e-5)
    assert NoiseReward()(masked).item() == pytest.approx(-expected, rel=1e-5)
    predicted = (transition.x_0_hat - transition.x_0) ** 2
    assert LookForwardReward()(masked).item() == pytest.approx(
        -((predicted * share).sum() / (4 * share.sum())).item(), rel=1e-5
    )
    if background == 0:  # what the critic is shown of the background does not matter
        other = replace(masked, x_0_hat=masked.x_0_hat + torch.cat([torch.zeros(8, 4), torch.ones(8, 4)], dim=1))
        critic = ResidualCritic(4, 8, 8, generator=seeded(1))
        assert torch.equal(critic(masked), critic(other))
        assert not torch.equal(critic(transition), critic(replace(other, mask=None)))


def test_masks_are_no_photos_and_weigh_nothing_where_the_background_counts_in_full(dog: Path) -> None:
    mask(dog / "0.mask.png", (24, 0, 48, 48))
    subject = load(dog)
    assert len(subject.photos) == 3
    assert latent_weights(make_views(subject), 8, 8, 1.0) is None
    assert latent_weights(make_views(load(dog, captions=False)), 8, 8, 0.0) is not None


def test_a_mask_of_no_photo_is_reported(dog: Path) -> None:
    for name in ("0.mask.png", "1.png.mask.png", "2.MASK.PNG", ".3.mask.png", "4.mask.png"):
        mask(dog / name, (0, 0, 96, 48))
    subject = load(dog, crops=2)
    assert all(photo.masks for photo in subject.photos)
    assert [name.split()[0] for name in subject.unused] == [".3.mask.png", "4.mask.png"]
    assert not any("mask" in note for note in load_subject(
        [dog / "1.png", dog / "2.png"], class_noun="dog", resolution=SIDE, allow_few=True
    ).notes)  # fmt: skip


def test_a_transparent_mask_is_black_where_it_is_clear(dog: Path) -> None:
    image = Image.new("RGBA", (96, 48), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (24, 0, 48, 48))
    image.save(dog / "0.mask.png")
    seen = load(dog).photos[0].masks[0]
    assert seen[:, :15].min() == 255
    assert seen[:, 17:].max() == 0


@pytest.mark.parametrize(
    ("box", "size", "code", "facts"),
    [
        ((0, 0, 9, 9), (48, 96), "mask-size", ("48x96", "96x48")),
        ((0, 0, 0, 0), (96, 48), "mask-empty", ()),
        ((0, 0, 9, 9), (96, 48), "mask-empty", ("central square", "data.crops")),
    ],
)
def test_masks_that_cannot_be_used(
    dog: Path, box: tuple[int, int, int, int], size: tuple[int, int], code: str, facts: tuple[str, ...]
) -> None:
    mask(dog / "0.mask.png", box, size)
    with raises(code, dog / "0.png", "0.mask.png", *facts):
        load(dog)
    (dog / "0.mask.png").write_bytes(b"no image")
    with raises("mask-format", dog / "0.png", "0.mask.png"):
        load(dog)


# Mirror images and crops


def test_flip_adds_the_mirror_image_with_its_mask(dog: Path) -> None:
    mask(dog / "0.mask.png", (24, 0, 48, 48))
    plain, flipped = (make_views(load(dog), flip=flip) for flip in (False, True))
    assert len(flipped) == 2 * len(plain) == 6
    for view, mirror, before in zip(flipped[::2], flipped[1::2], plain, strict=True):
        assert np.array_equal(view.pixels, before.pixels)
        assert np.array_equal(mirror.pixels, view.pixels[:, ::-1])
        assert mirror.prompt == view.prompt
    first, mirror = flipped[:2]
    assert first.mask is not None
    assert mirror.mask is not None
    assert np.array_equal(mirror.mask, first.mask[:, ::-1])
    assert mirror.pixels.mean() == first.pixels.mean()
    assert not np.array_equal(mirror.pixels, first.pixels)


def test_squares_lie_along_the_long_side() -> None:
    assert squares_along(96, 48, 3) == [(0, 0, 48, 48), (24, 0, 72, 48), (48, 0, 96, 48)]
    assert squares_along(48, 96, 2) == [(0, 0, 48, 48), (0, 48, 48, 96)]
    assert squares_along(96, 48, 1) == [(24, 0, 72, 48)]
    assert squares_along(48, 48, 3) == [(0, 0, 48, 48)]


def test_crops_are_views_of_their_own(dog: Path) -> None:
    plain = load(dog).photos[0].pixels
    mask(dog / "1.mask.png", (0, 0, 20, 48))  # in the first crop only
    subject = load(dog, crops=3)
    left, middle, right = make_views(subject)[:3]
    assert left.pixels.max() < 20  # Lanczos looks a pixel beyond the edge
    assert right.pixels.min() > 235
    assert np.array_equal(middle.pixels, plain)
    assert np.array_equal(middle.pixels, subject.photos[0].pixels)  # the central square, as without crops
    assert len(make_views(subject)) == 3 + 1 + 3  # a crop without the subject is left out


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(96, 48), (48, 96)])
def test_crops_and_masks_agree_however_the_camera_was_held(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    """The photo is white where its mask is, in the upright picture."""
    shown = (size[1], size[0]) if orientation >= 5 else size
    painted = Image.new("RGB", shown)
    painted.paste((255, 255, 255), (0, 0, 30, 40))
    painted.convert("L").save(tmp_path / "0.mask.png")
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what turns the upright picture into the file
    stored = painted.transpose(Image.Transpose(back[orientation])) if orientation > 1 else painted
    assert stored.size == size
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "0.png", exif=exif)
    (photo,) = load(tmp_path / "0.png", crops=2, allow_few=True).photos
    assert len(photo.squares) == len(photo.masks) == 2
    for square, seen in zip(photo.squares, photo.masks, strict=True):
        assert np.abs(square[..., 0].astype(int) - seen).mean() < 3
    assert photo.masks[0].mean() > photo.masks[1].mean()


# Scaled views


@pytest.mark.parametrize(
    ("scale", "words"), [(0.5, ("far away", "very small")), (0.8, ()), (1.3, ("zoomed in", "close up"))]
)
def test_a_scaled_view_tells_its_scale_and_counts_only_what_is_of_the_photo(
    dog: Path, scale: float, words: tuple[str, ...]
) -> None:
    mask(dog / "0.mask.png", (24, 0, 72, 48))  # all of the central square
    subject = load(dog, large=45)
    view = make_views(subject)[0]
    chance = np.random.default_rng(0)
    seen = [scaled(view, subject.photos[0].large[0], scale, chance) for _ in range(8)]
    assert {v.prompt for v in seen} == ({f"{view.prompt}, {w}" for w in words} or {view.prompt})
    assert all(v.pixels.shape == (SIDE, SIDE, 3) for v in seen)
    assert len({v.pixels.tobytes() for v in seen}) > 1  # by chance
    for v in seen:
        assert v.mask is not None
        if scale > 1:
            assert v.valid is None
            continue
        assert v.valid is not None
        assert v.valid.sum() == round(scale * SIDE) ** 2
        assert (v.pixels[~v.valid] == 127).all()
        assert not v.mask[~v.valid].any()
        weight = latent_weights([v], 8, 8, 1.0)
        assert weight is not None
        assert weight.mean().item() == pytest.approx(1)
        valid = torch.from_numpy(v.valid.astype(np.float32))[None]
        whole = torch.nn.functional.adaptive_avg_pool2d(valid, 8) == 1
        assert not weight[0][~whole].any()  # nothing of the grey is learned
        assert weight[0].any()


def test_augment_adds_as_many_scaled_views_as_asked_the_same_for_the_same_seed(dog: Path) -> None:
    subject = load(dog, large=45)
    first, again, other = (make_views(subject, augment=4, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 3 * 5
    assert all(np.array_equal(a.pixels, b.pixels) and a.prompt == b.prompt for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))
    sides = [v.valid.any(axis=0).sum() for v in first if v.valid is not None]
    assert min(sides) < 0.65 * SIDE
    assert any("close up" in v.prompt or "zoomed in" in v.prompt for v in first)


# Several subjects


@pytest.fixture
def subjects(dog: Path) -> Path:
    cat = dog.parent / "cat"
    cat.mkdir()
    for i in range(3):
        save_image(cat / f"{i}.png", 10 + i)
    path = dog.parent / "subjects.toml"
    path.write_text(
        '[[subject]]\nphotos = "dog"\nclass_noun = "dog"\nidentifier = "sks"\n'
        '[[subject]]\nphotos = "cat"\nclass_noun = "red  cat"\nidentifier = "zwx"\n'
    )
    return path


def test_a_list_trains_all_its_subjects(subjects: Path) -> None:
    reward = "look-forward + 0.1*dino"
    trainer = trainer_of(
        subjects,
        **{
            "model.name": "toybox",
            "run.batch_size": 32,
            "data.class_images": 2,
            "data.class_image_steps": 1,
            "objective.reward": reward,
        },
    )
    batch = trainer.draw(trainer.references, trainer.generator)
    assert set(zip(batch.prompts, batch.subject.tolist(), strict=True)) == {  # type: ignore[union-attr]
        ("a photo of sks dog", 0),
        ("a photo of zwx red cat", 1),
    }
    assert trainer.class_images is not None
    assert trainer.class_images.prompts == ("a photo of dog",) * 2 + ("a photo of red cat",) * 2
    subjects_shown = references_of(trainer).subjects
    assert subjects_shown is not None
    assert subjects_shown.tolist() == [0, 0, 0, 1, 1, 1]
    rewards: Any = trainer.environment.rewards
    dino = rewards.terms[1][1].reward
    assert isinstance(dino, PerSubjectReward)
    each: list[Any] = list(dino.rewards)
    assert [len(one.measure.references) for one in each] == [3, 3]
    assert not torch.equal(each[0].measure.references, each[1].measure.references)
    (result,) = train(trainer, 1)
    assert "reward/dino" in result.terms


def test_one_class_noun_needs_its_class_images_once(subjects: Path) -> None:
    subjects.write_text(subjects.read_text().replace("red  cat", "dog"))
    trainer = trainer_of(subjects, **{"data.class_images": 2})
    assert trainer.class_images is not None
    assert trainer.class_images.prompts == ("a photo of dog",) * 2


def test_subjects_are_named_in_the_settings(subjects: Path) -> None:
    config = settings(**name_subjects(subjects, {"subject.class_noun": ""}))
    assert subjects_of(config) == [("sks", "dog"), ("zwx", "red cat")]
    subject = read_subject(subjects, config)
    assert [one.name for one in subject.together] == ["sks dog", "zwx red cat"]
    assert [len(line.split()) for line in subject.digests] == [3, 1, 1, 1, 4, 1, 1, 1]


@pytest.mark.parametrize(
    ("old", "new", "code", "facts"),
    [
        ("zwx", "SKS", "subject-twice", ("SKS",)),
        ('identifier = "zwx"', "", "subject-list", ("subject[1].identifier",)),
        ('identifier = "zwx"', "identifier = 3", "subject-list", ("subject[1].identifier", 3)),
        ('identifier = "zwx"', 'identifier = "zwx"\nsteps = 3', "subject-list", ("subject[1]", "steps")),
        ("zwx", "z=x", "subject-list", ("subject[1]", "'z=x'")),
        ('"red  cat"', '" "', "subject-list", ("subject[1]", "class_noun")),
        ("[[subject]]", "[[subjects]]", "subject-list", ("has subjects",)),
        ("[[subject]]", "[[concept]]", "subject-list", ("has concept", "[[subject]]")),
        ('"cat"', '"cow"', "photos-missing", ("cow",)),
    ],
)
def test_lists_that_cannot_be_used(subjects: Path, old: str, new: str, code: str, facts: tuple[Any, ...]) -> None:
    subjects.write_text(subjects.read_text().replace(old, new))
    with raises(code, *facts):
        trainer_of(subjects)


def test_the_word_that_is_learned_is_the_one_in_prompts(dog: Path) -> None:
    config = settings(**name_subjects(dog, {"subject.class_noun": " red  dog", "subject.identifier": "<my  dog> "}))
    assert subjects_of(config) == [("<my dog>", "red dog")]
    subject = read_subject(dog, config)
    assert (subject.identifier, subject.class_noun) == ("<my dog>", "red dog")


def test_a_list_names_its_subjects_alone(subjects: Path) -> None:
    with raises("subject-named-twice", subjects):
        name_subjects(subjects, {"subject.class_noun": "dog"})


class Constant:
    needs_image = True

    def __init__(self, name: str, factor: float) -> None:
        self.name, self.factor = name, factor

    def __call__(self, transition: Transition) -> torch.Tensor:
        assert transition.image is not None
        return self.factor * transition.image.mean(dim=(1, 2, 3))


def test_each_sample_is_compared_with_its_own_subject() -> None:
    image = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    transition = replace(random_transition(seeded(), 4), image=image, subject=torch.tensor([1, 0, 2, 1]))
    reward = PerSubjectReward([Constant("r", 1.0), Constant("r", 10.0), Constant("r", 100.0)])
    assert reward(transition).tolist() == [0.0, 1.0, 200.0, 30.0]
    with pytest.raises(ValueError, match=r"give Transition\.subject"):
        reward(replace(transition, subject=None))


# All of them in a run


@pytest.mark.parametrize("text_encoder", [True, False])
def test_resume_is_exact_with_all_kinds_of_views(subjects: Path, tmp_path: Path, text_encoder: bool) -> None:
    (tmp_path / "dog" / "0.txt").write_text("a {} beside a vase")
    (tmp_path / "cat" / "1.txt").write_text("{} in the snow")
    mask(tmp_path / "dog" / "1.mask.png", (0, 0, 60, 48))
    kinds: dict[str, Any] = {
        "data.flip": True,
        "data.crops": 2,
        "data.augment": True,
        "data.augment_views": 2,
        "data.background_weight": 0.1,
    }

    def fresh() -> Trainer:
        return trainer_of(subjects, **{"run.batch_size": 2, "adapter.train_text_encoder": text_encoder}, **kinds)

    straight, first, second = fresh(), fresh(), fresh()
    terms = [r.terms for r in train(straight, 5)]
    list(train(first, 3))
    save_checkpoint(first, tmp_path / "checkpoints")
    assert load_newest(second, tmp_path / "checkpoints")
    assert [r.terms for r in train(second, 5)] == terms[3:]
    assert all(torch.equal(p, second.parameters[n]) for n, p in straight.parameters.items())


def test_the_card_counts_the_photos_of_all_subjects(subjects: Path, tiny_model: Path, tmp_path: Path) -> None:
    given = {"model.name": str(tiny_model), "objective.prior_weight": 0.0, "run.steps": 1}
    config = settings(**name_subjects(subjects, given))
    list(TrainingJob(tmp_path / "run", config, read_subject(subjects, config)))
    assert "Trained with lookforward on 6 photos." in (tmp_path / "run" / "export" / CARD).read_text()


@pytest.mark.parametrize("kind", ["caption", "mask", "flip"])
def test_a_run_with_other_views_is_another_run(dog: Path, tmp_path: Path, kind: str) -> None:
    config = settings(**{"subject.photos": str(dog)})
    job = TrainingJob(tmp_path / "run", config, read_subject(dog, config))
    job.run.begin(job.subject.digests)
    TrainingJob(tmp_path / "run", config, read_subject(dog, config))
    match kind:
        case "caption":
            (dog / "0.txt").write_text("a {}")
            fact = "captions or masks"
        case "mask":
            mask(dog / "0.mask.png", (0, 0, 60, 48))
            fact = "captions or masks"
        case _:
            config = settings(**{"subject.photos": str(dog), "data.flip": True})
            fact = "data.flip was False, now True"
    with raises("run-differs", tmp_path / "run", fact):
        TrainingJob(tmp_path / "run", config, read_subject(dog, config))


def test_dpok_wants_one_prompt(dog: Path) -> None:
    (dog / "0.txt").write_text("a {}")
    settings = load_settings(
        "dpok", {"subject.class_noun": "dog", "data.resolution": SIDE, "model.name": "none", "data.class_images": 1}
    )
    with raises("settings-conflict", "dpok", "data.captions"):
        build(settings, read_subject(dog, settings), make_pipeline())


@pytest.mark.parametrize(
    ("name", "value"),
    [("data.background_weight", 1.5), ("data.background_weight", -0.1), ("data.crops", 0), ("data.augment_views", 0)],
)
def test_settings_out_of_range(name: str, value: float) -> None:
    with raises("setting-range", name, value):
        settings(**{name: value})
