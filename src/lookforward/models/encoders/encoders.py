"""Frozen image and text encoders: DINO (Caron et al., 2021), DINOv2 (Oquab et al., 2023), CLIP (Radford et al., 2021).

All return unit vectors, so that a dot product of two embeddings is their cosine similarity. For rewards the image
side is differentiable from the pixels on, preprocessing included; for scores it preprocesses as the authors do.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model, ViTModel

from lookforward.models.encoders.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    OPENAI_MEAN,
    OPENAI_STD,
    Preprocessing,
    read_preprocessing,
    resize_and_crop,
)
from lookforward.models.weight_files import check_vocabulary, explain_load_error, load_weights, local_folder


class ImageEncoder(nn.Module):
    """A frozen network from images to unit vectors.

    `encoder(images)`: images (b, 3, h, w), float in [0, 1], any size; returns (b, d), float32, each row of
    length 1. Differentiable with respect to the images unless `published`; no parameter ever receives a
    gradient, and `train()` does not switch dropout on. Raises ValueError where the images have another shape.
    """

    def __init__(self, network: nn.Module, features: Callable[[Tensor], Tensor], preprocessing: Preprocessing) -> None:
        """`features` maps normalised pixels (b, 3, crop, crop) to (b, d) with `network`'s weights."""
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.features = features
        self.preprocessing = preprocessing
        self.exact = False
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> "ImageEncoder":
        return self

    def published(self) -> "ImageEncoder":
        """The same weights behind their authors' own preprocessing, for scores: 8-bit, and without a gradient."""
        encoder = copy.copy(self)
        encoder.exact = True
        return encoder

    def preprocess(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) in [0, 1] → (b, 3, crop, crop), normalised. Differentiable unless `published`."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have the shape (b, 3, h, w), these have {tuple(images.shape)}")
        if self.exact:
            return (resize_and_crop(images, self.preprocessing).to(self.mean) - self.mean) / self.std
        images = images.to(self.mean)
        resize, crop = self.preprocessing.resize, self.preprocessing.crop
        height, width = images.shape[-2:]
        shorter = min(height, width)
        if shorter != resize:
            size = (int(height * resize / shorter), int(width * resize / shorter))
            # Apple's accelerator has no gradient of this resize
            source = images.cpu() if images.device.type == "mps" else images
            resized = F.interpolate(source, size, mode="bicubic", antialias=True, align_corners=False)
            images = resized.clamp(0, 1).to(images)  # bicubic overshoots at edges, which 8-bit images cannot
        top, left = (images.shape[-2] - crop) // 2, (images.shape[-1] - crop) // 2
        images = images[..., top : top + crop, left : left + crop]
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.features(self.preprocess(images)), dim=-1)


@dataclass(frozen=True)
class ClipEncoders:
    """CLIP's two towers; `image` and `text` embed into the same space."""

    image: ImageEncoder
    model: CLIPModel
    tokenizer: CLIPTokenizer

    def published(self) -> "ClipEncoders":
        """As `ImageEncoder.published`."""
        return replace(self, image=self.image.published())

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """n prompts, cut off at the model's length (77 tokens) → (n, d), each row of length 1."""
        length = self.model.text_model.embeddings.position_embedding.num_embeddings
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt"
        ).to(self.image.mean.device)
        output: Any = self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
        return F.normalize(output.pooler_output, dim=-1)


def load_dino(source: str | Path, device: torch.device | str = "cpu") -> ImageEncoder:
    """DINO: the class token of a ViT's last layer.

    `source`: a folder in transformers' format, or a hub id such as "facebook/dino-vits16".
    Raises LookforwardError where it cannot be loaded.
    """
    return _load_class_token(ViTModel, source, device, add_pooling_layer=False)


def load_dinov2(source: str | Path, device: torch.device | str = "cpu") -> ImageEncoder:
    """DINOv2: the class token of a ViT's last layer, normalised by the model's last norm.

    `source`: a folder in transformers' format, or a hub id such as "facebook/dinov2-small".
    Raises LookforwardError where it cannot be loaded.
    """
    return _load_class_token(Dinov2Model, source, device)


def _load_class_token(kind: Any, source: str | Path, device: torch.device | str, **options: Any) -> ImageEncoder:
    folder = local_folder(source)
    model = load_weights(kind, folder, **options)
    preprocessing = read_preprocessing(folder, model.config.image_size, IMAGENET_MEAN, IMAGENET_STD)
    resized = kind is ViTModel and preprocessing.crop != model.config.image_size  # Dinov2Model interpolates by itself
    more = {"interpolate_pos_encoding": True} if resized else {}

    def class_token(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels, **more).last_hidden_state[:, 0]

    return ImageEncoder(model, class_token, preprocessing).to(device)


def load_clip(source: str | Path, device: torch.device | str = "cpu") -> ClipEncoders:
    """CLIP: projected, pooled features of images and of prompts.

    `source`: a folder in transformers' format, or a hub id such as "openai/clip-vit-base-patch32".
    Raises LookforwardError where it cannot be loaded.
    """
    folder = local_folder(source)
    model = load_weights(CLIPModel, folder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    except Exception as error:
        raise explain_load_error(source, error) from error
    _check_tokenizer(folder, tokenizer, model.config.text_config.eos_token_id)
    size = model.config.vision_config.image_size
    preprocessing = read_preprocessing(folder, size, OPENAI_MEAN, OPENAI_STD)
    interpolate = preprocessing.crop != size

    def projected(pixels: Tensor) -> Tensor:
        output: Any = model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=interpolate)
        return output.pooler_output

    return ClipEncoders(ImageEncoder(model, projected, preprocessing).to(device), model, tokenizer)


def _check_tokenizer(folder: Path, tokenizer: CLIPTokenizer, eos: int) -> None:
    """Two mistakes that transformers passes over and that make every prompt embed alike."""
    check_vocabulary(folder, tokenizer)
    # CLIPTextModel pools at the token `eos`, or, where the configuration says 2, at the highest token.
    pooled_at = len(tokenizer) - 1 if eos == 2 else eos
    if tokenizer.eos_token_id != pooled_at:
        ends = f"its tokenizer ends a prompt with token {tokenizer.eos_token_id}"
        problem = f"{ends}, its text encoder looks for {pooled_at}"
        raise explain_load_error(folder, ValueError(problem))
