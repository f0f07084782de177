"""Rewards of an encoder: likeness to the reference photos, and to the prompt."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lookforward.core.protocols import Reward
from lookforward.core.specs import Resources
from lookforward.models.encoders import ClipEncoders, Encoders, load_clip, load_dino
from lookforward.rewards import CLIP_IMAGE, CLIP_TEXT, DINO, DINOV2, EMBEDDING
from tiny_rewards import (
    PROMPTS,
    assert_gradient,
    flat,
    grain,
    mean_colour,
    pictures,
    save_clip,
    save_dinov2,
    save_vit,
    with_images,
)

WRITTEN = {"dino": DINO, "dinov2": DINOV2, "clip-image": CLIP_IMAGE, "embedding:vit": EMBEDDING}
each_reward = pytest.mark.parametrize("name", WRITTEN)
Make = Callable[[str, Tensor], Reward]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Each reward with its own encoder, tiny, random and in double precision."""
    folder = tmp_path_factory.mktemp("encoders")
    sources = {
        "dino": save_vit(folder / "dino"),
        "dinov2": save_dinov2(folder / "dinov2"),
        "clip": save_clip(folder / "clip"),
    }
    encoders = Encoders({name: str(path) for name, path in sources.items()})
    vit = str(save_vit(folder / "vit", pooler=True))
    for encoder in (encoders.dino, encoders.dinov2, encoders.clip.image, encoders.embedding(vit)):
        encoder.double()

    def make_reward(name: str, references: Tensor) -> Reward:
        return WRITTEN[name].build(name.replace("vit", vit), Resources(encoders, references))

    return make_reward


def dino(references: Tensor) -> Reward:
    return DINO.build("dino", Resources(Encoders({}, dino=mean_colour()), references))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoders:
    return load_clip(save_clip(tmp_path_factory.mktemp("clip")))


def test_mean_cosine_over_the_references() -> None:
    reward = dino(flat((1, 0, 0), (0, 1, 0)))
    values = reward(with_images(flat((1, 0, 0), (0.5, 0.5, 0), (0, 0, 1))))
    torch.testing.assert_close(values, torch.tensor([0.5, 0.5**0.5, 0.0]))
    assert values.dtype == torch.float32


@each_reward
def test_named_as_it_is_written(name: str, make: Make) -> None:
    reward = make(name, pictures(2, seed=5))
    assert (reward.name.partition(":")[0], reward.needs_image) == (WRITTEN[name].name, True)


@each_reward
def test_gradient_agrees_with_finite_differences(name: str, make: Make) -> None:
    assert_gradient(make(name, pictures(2, seed=5)), with_images(pictures()))


@each_reward
def test_rises_towards_the_reference_and_is_1_there(name: str, make: Make) -> None:
    photo = pictures(1, seed=5).double()
    reward = make(name, photo)
    images = torch.cat([photo + share * 0.2 * grain(photo) for share in (1.0, 0.3, 0.05, 0.0)]).clamp(0, 1)
    values = reward(with_images(images, prompts=[""] * 4))
    assert (values.diff() > 0).all()
    assert float(values[-1]) == pytest.approx(1)
    assert float(values.min()) >= -1


@each_reward
def test_a_step_up_the_gradient_earns_more(name: str, make: Make) -> None:
    reward = make(name, pictures(2, seed=5))
    image = pictures().double().requires_grad_(True)
    before = reward(with_images(image))
    (gradient,) = torch.autograd.grad(before.sum(), image)
    steepness = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    after = reward(with_images((image + 1e-3 * gradient / steepness).detach()))
    assert (after > before).all()


@given(order=st.permutations(range(5)))
def test_order_of_the_references_does_not_matter(order: list[int]) -> None:
    references, transition = pictures(5, side=8, seed=5), with_images(pictures(side=8))
    expected = dino(references)(transition)
    torch.testing.assert_close(dino(references[order])(transition), expected)
    assert float(expected.std()) > 0


def test_each_image_is_rewarded_alone(make: Make) -> None:
    reward, images = make("dino", pictures(2, seed=5)), pictures()
    together = reward(with_images(images))
    alone = torch.cat([reward(with_images(images[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_references_and_image_are_required() -> None:
    with pytest.raises(ValueError, match="at least one reference photo"):
        dino(torch.zeros(0, 3, 8, 8))
    transition = with_images(pictures(side=8))
    object.__setattr__(transition, "image", None)
    with pytest.raises(ValueError, match="'dino' looks at the image: decode x_0_hat"):
        dino(pictures(side=8))(transition)


def test_clip_text_pairs_each_image_with_its_prompt() -> None:
    class Towers:
        image = mean_colour()

        def text(self, prompts: tuple[str, ...]) -> Tensor:
            return torch.eye(3)[[["red", "green", "blue"].index(prompt) for prompt in prompts]]

    reward = CLIP_TEXT.build("clip-text", Resources(Encoders({}, clip=Towers()), pictures(1)))
    transition = with_images(flat((0, 1, 0), (1, 0, 0), (0.6, 0, 0.8)), prompts=["green", "blue", "blue"])
    torch.testing.assert_close(reward(transition), torch.tensor([1.0, 0.0, 0.8]))
    with pytest.raises(ValueError, match="3 images need as many prompts, got 1"):
        reward(with_images(pictures(side=8), prompts=["green"]))


def test_clip_text_gradient_range_and_prompt(clip: ClipEncoders) -> None:
    reward = CLIP_TEXT.build("clip-text", Resources(Encoders({}, clip=clip), pictures(1)))
    images = pictures()
    values = reward(with_images(images))
    assert values.shape == (3,)
    assert (values.abs() <= 1).all()
    others = reward(with_images(images, prompts=PROMPTS[::-1]))
    torch.testing.assert_close(values[1], others[1])
    assert float((values - others)[[0, 2]].abs().min()) > 1e-4
    clip.image.double()  # the text tower is of the same model
    assert_gradient(reward, with_images(images))


def test_encoders_learn_nothing_from_their_reward(tmp_path: Path) -> None:
    encoder = load_dino(save_vit(tmp_path))
    image = pictures().requires_grad_(True)
    DINO.build("dino", Resources(Encoders({}, dino=encoder), pictures(2, seed=5)))(with_images(image)).sum().backward()
    assert image.grad is not None
    assert all(parameter.grad is None for parameter in encoder.parameters())
