"""For tests of rewards: tiny random encoders saved as the real ones are, transitions with images, and gradients."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from lookforward.core.protocols import Reward
from lookforward.core.types import Transition
from lookforward.models.encoders import ImageEncoder, Preprocessing
from lookforward_toybox.training.tokenizer import build_tokenizer
from tiny import random_transition, seeded

SIDE = 32  # px, of images and encoders
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}
PROMPTS = ("a photo of a red dog", "a teapot in the jungle", "a vase in the snow")


def with_images(image: Tensor, photo: Tensor | None = None, prompts: Sequence[str] = PROMPTS) -> Transition:
    """A decision whose predicted final image looks like `image`, (b, 3, h, w)."""
    count = len(image)
    drawn = random_transition(seeded(), count, size=4)
    return replace(drawn, image=image, photo=photo, prompts=tuple(prompts[:count]))


def pictures(count: int = 3, side: int = SIDE, seed: int = 1) -> Tensor:
    """Smooth pictures by chance, (count, 3, side, side) within [0.2, 0.8], where clamping has no part."""
    noise = torch.rand(count, 3, 6, 6, generator=seeded(seed))
    return interpolate(0.3 + 0.4 * noise, (side, side), mode="bicubic", align_corners=False).clamp(0.2, 0.8)


def grain(like: Tensor, seed: int = 2) -> Tensor:
    return torch.randn(like.shape, generator=seeded(seed)).to(like)


def assert_gradient(reward: Reward, transition: Transition) -> None:
    """The slope of each sample's reward along a direction of its image is what the gradient says."""
    assert transition.image is not None
    image = transition.image.double().detach().requires_grad_(True)
    direction = grain(image, seed=3)

    def moved(step: float) -> Tensor:
        return reward(replace(transition, image=image + step * direction))

    (gradient,) = torch.autograd.grad(moved(0.0).sum(), image)
    slope = (gradient * direction).flatten(1).sum(dim=1)  # (b,)
    with torch.no_grad():
        difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
    assert float(slope.abs().min()) > 1e-6  # else the comparison says nothing
    torch.testing.assert_close(slope, difference, rtol=1e-4, atol=1e-9)


def mean_colour() -> ImageEncoder:
    """An encoder whose embedding can be checked by hand: the direction of the mean colour."""
    plain = Preprocessing(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return ImageEncoder(nn.Identity(), lambda pixels: pixels.mean(dim=(2, 3)), plain)


def flat(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 8, 8)


def save_vit(folder: Path, pooler: bool = False) -> Path:
    torch.manual_seed(0)
    settings = ViTConfig(**SIZES, intermediate_size=64, image_size=SIDE, patch_size=8)
    ViTModel(settings, add_pooling_layer=pooler).save_pretrained(folder)
    return folder


def save_dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2, image_size=SIDE, patch_size=8)).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(list(PROMPTS))
    text = CLIPTextConfig(
        **SIZES,
        intermediate_size=64,
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,  # pyright: ignore[reportArgumentType]
        eos_token_id=tokenizer.eos_token_id,  # pyright: ignore[reportArgumentType]
    )
    vision = CLIPVisionConfig(**SIZES, intermediate_size=64, image_size=SIDE, patch_size=8)
    settings = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    CLIPModel(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
