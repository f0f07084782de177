"""Models that shift their noise levels by the size of the image: each batch has the levels of its own bucket."""
# diffusers types its pipelines more narrowly than it takes their arguments
# pyright: reportArgumentType=false

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from families import SHORT, Seen, watch
from lookforward.algorithm.environment import act_on
from lookforward.algorithm.examples import Buckets
from lookforward.algorithm.trainer import train
from lookforward.assembly import build
from lookforward.baselines.sampler import Sampler, sample_steps
from lookforward.config.recipe import load_settings
from lookforward.core.path import NoisePath
from lookforward.core.types import Batch
from lookforward.data.subjects import read_subject
from lookforward.models.policy import DiffusionPolicy
from tiny import seeded
from tiny_flux import make_flux
from tiny_flux2 import make_dev, make_klein
from tiny_qwen import make_qwen_image, make_z_image

SHIFTING: dict[str, Callable[[], Any]] = {
    "flux": make_flux, "flux2": make_klein, "flux2_dev": make_dev, "qwen_image": make_qwen_image,
}  # fmt: skip
# Tokens in height and width of 1024 × 1024, 640 × 384 and 512 × 512 pixels, and μ there by each family's own formula:
# 0.5 at 256 tokens to 1.15 at 4096; of FLUX.2 the line through 200 and 10 steps, at 50; 0.5 at 256 to 0.9 at 8192
VALUES = {
    "flux": [((64, 64), 1.15), ((40, 24), 0.619167), ((32, 32), 0.63)],
    "flux2": [((64, 64), 2.02335), ((40, 24), 1.695264), ((32, 32), 1.70196)],
    "flux2_dev": [((64, 64), 2.02335), ((40, 24), 1.695264), ((32, 32), 1.70196)],
    "qwen_image": [((64, 64), 0.693548), ((40, 24), 0.535484), ((32, 32), 0.53871)],
}


def shifted(mu: float, u: Tensor) -> Tensor:
    return math.exp(mu) * u / (1 + (math.exp(mu) - 1) * u)


def latents_of(name: str, tokens: tuple[int, int]) -> Tensor:
    """Noise of an image with so many tokens: those of FLUX.2 are tokens already, the others' are 2 × 2 latents."""
    pipeline = SHIFTING[name]()
    if name.startswith("flux2"):
        return torch.randn(1, pipeline.transformer.config.in_channels, *tokens, generator=seeded())
    return torch.randn(1, pipeline.transformer.config.in_channels // 4, *(2 * n for n in tokens), generator=seeded())


class NotedError(Exception):
    """The pipeline said how much it shifts."""


def pipelines_own_mu(pipeline: Any, height: int, width: int) -> float:
    """What the pipeline gives its scheduler for an image of this size, by its default number of steps."""
    noted: list[float] = []

    def note(*_: Any, mu: float, **__: Any) -> None:
        noted.append(mu)
        raise NotedError

    pipeline.scheduler.set_timesteps = lambda *args, mu, sigmas=None, **more: note(*args, mu=mu)
    with pytest.raises(NotedError):
        pipeline(prompt="a photo of a dog", height=height, width=width, num_inference_steps=50)
    del pipeline.scheduler.set_timesteps
    return noted[0]


@pytest.mark.parametrize("name", SHIFTING)
@torch.no_grad()
def test_levels_are_those_of_the_pipelines_own_sampling_at_the_same_size(name: str) -> None:
    pipeline, u = SHIFTING[name](), torch.arange(1, 1001) / 1000
    policy = DiffusionPolicy(pipeline, resolution=64)
    unit = policy.family.size_unit(pipeline)
    for tokens, mu in VALUES[name]:
        path = policy.path.of(latents_of(name, tokens))
        torch.testing.assert_close(path.noise, shifted(mu, u), rtol=1e-4, atol=1e-6)
        assert pipelines_own_mu(pipeline, *(unit * n for n in tokens)) == pytest.approx(mu, abs=1e-5)
        assert (path.timesteps, path.density) == (policy.path.timesteps, policy.path.density)
    square = torch.randn(1, 4, *(64 // unit * (1 if name.startswith("flux2") else 2),) * 2)
    assert torch.equal(policy.path.of(square).noise, policy.path.noise)


def test_a_family_with_one_shift_has_one_path() -> None:
    path: NoisePath = DiffusionPolicy(make_z_image()).path
    assert path.of(torch.zeros(1, 4, 10, 6)) is path


@pytest.mark.parametrize("name", SHIFTING)
@torch.no_grad()
def test_a_batch_and_its_class_images_have_levels_of_their_own(name: str) -> None:
    """x_t, x̂_0 and what the denoiser is told of a portrait, beside class images that are a square."""
    pipeline = SHIFTING[name]()
    policy, seen, timestep = DiffusionPolicy(pipeline, resolution=512), Seen(), torch.tensor([499])
    hook = watch(policy.denoiser, seen)
    sizes = [tokens for tokens, _ in VALUES[name][1:]]
    parts = []
    for tokens in sizes:
        x_0 = latents_of(name, tokens)
        parts.append(Batch(x_0, x_0.flip(0, 1, 2, 3), timestep, ("a dog",), plain_prompts=("a dog",)))
    batch = Batch(**{**vars(parts[0]), "class_images": parts[1]})
    both = act_on(policy, batch, policy.encode_prompts(["a dog", "a dog"]))
    hook.remove()
    for (_, mu), transition, (given, _) in zip(VALUES[name][1:], both, seen, strict=True):
        assert transition is not None
        sigma = shifted(mu, torch.tensor([0.5]))
        torch.testing.assert_close(given["timestep"].float(), sigma, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(transition.noise_level, sigma, rtol=1e-4, atol=1e-5)
        x_t = (1 - sigma) * transition.x_0 + sigma * transition.noise
        torch.testing.assert_close(transition.state.x_t, x_t, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(transition.x_0_hat, x_t - sigma * transition.action, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_trajectory_passes_through_the_levels_of_its_own_size() -> None:
    policy, seen, u = DiffusionPolicy(make_flux(), resolution=512), Seen(), torch.tensor([1, 0.8, 0.6, 0.4, 0.2])
    hook = watch(policy.denoiser, seen)
    x_t, words = latents_of("flux", (40, 24)), policy.encode_prompts(["a dog"])
    list(sample_steps(policy, Sampler(steps=5, guidance=1.0), x_t, words, None, seeded()))
    hook.remove()
    found = torch.cat([given["timestep"] for given, _ in seen])
    torch.testing.assert_close(found, shifted(0.619167, u), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", ["look-forward", "draft"])
def test_a_run_in_two_buckets_shows_each_its_own_levels(recipe: str, tmp_path: Path) -> None:
    """Photos of 32 and 64 pixels, whose latents have 16 and 64 tokens."""
    (tmp_path / "dog").mkdir()
    for i in range(2):
        Image.effect_noise((64, 64), 80 + i).convert("RGB").save(tmp_path / "dog" / f"{i}.png")
    pipeline = make_flux()
    pipeline.save_pretrained(tmp_path / "model")
    asked = load_settings(recipe, SHORT | {
        "model.name": str(tmp_path / "model"), "subject.class_noun": "dog", "data.buckets": True,
        "data.bucket_resolutions": "64", "data.allow_few": True, "adapter.name": "lora", "objective.prior_weight": 0.0,
        "objective.reward": "look-forward" if recipe == "look-forward" else "ssim",
    })  # fmt: skip
    trainer = build(asked, read_subject(tmp_path / "dog", asked), pipeline).trainer
    assert isinstance(trainer.references, Buckets)
    seen = Seen()
    denoiser: Any = trainer.policy.denoiser  # pyright: ignore[reportAttributeAccessIssue]
    hook = watch(denoiser, seen)
    list(train(trainer, 6))
    hook.remove()
    sizes = set()
    for given, _ in seen:
        tokens = given["hidden_states"].shape[1]
        mu = 0.5 + (tokens - 256) * 0.65 / 3840
        table = shifted(mu, torch.arange(1, 1001) / 1000)
        assert (given["timestep"][:, None] - table).abs().min(dim=1).values.max() < 1e-6
        sizes.add(tokens)
    assert sizes == {16, 64}
