"""Photos to latents and back, through diffusers' own VAE."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from conftest import make_pipeline
from lookforward.models.latents import decode, encode
from tiny import seeded


def tiny_vae() -> Any:  # diffusers is typed in part only
    parts: Any = AutoencoderKL
    vae = parts(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    return vae.eval().requires_grad_(False)


@pytest.mark.parametrize(("large", "batches"), [(256, [8, 1]), (16, [1] * 9)])
def test_photos_are_encoded_to_mean_and_deviation_in_any_batches(
    large: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookforward.models.latents.LARGE", large)
    pipeline = make_pipeline()
    pipeline.vae = vae = tiny_vae()
    photos = torch.rand(9, 3, 16, 16, generator=seeded())
    posterior = vae.encode(photos * 2 - 1).latent_dist
    seen: list[int] = []
    vae.encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    latents = encode(pipeline, photos)
    assert seen == batches
    assert len(latents) == 9
    assert latents.scaling == 0.5
    torch.testing.assert_close(latents.mean, posterior.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(latents.std, posterior.std, rtol=1e-4, atol=1e-5)
    assert not latents.mean.requires_grad


def test_decoding_undoes_the_scaling_and_is_differentiable() -> None:
    pipeline = make_pipeline()
    pipeline.vae = vae = tiny_vae()
    x_0 = torch.randn(2, 4, 8, 8, generator=seeded()).requires_grad_(True)
    images = decode(pipeline, x_0)
    expected = (vae.decode(x_0 / 0.5).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(images, expected)
    assert images.shape == (2, 3, 16, 16)
    (gradient,) = torch.autograd.grad(images.sum(), x_0)
    assert gradient.abs().sum() > 0
