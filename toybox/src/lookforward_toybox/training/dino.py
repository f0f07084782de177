"""Train the subject encoder of Toybox by self-distillation, as DINO (Caron et al. 2021), and by contrast of pairs.

The two global views of a pair show one subject in two scenes: what both share is the subject. Distillation alone
learns that slowly in so small a world, where there are more subjects than prototypes; the contrast separates
each subject of a batch from all others.
"""

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from lookforward_toybox.training.attention import unfuse_attention
from lookforward_toybox.training.augment import jitter, random_crops
from lookforward_toybox.training.contrast import pair_contrast
from lookforward_toybox.training.data import (
    Images,
    describe_weights,
    hash_file,
    load_as_float32,
    open_images,
    to_float,
    train_count,
)
from lookforward_toybox.training.loop import TrainingSchedule, describe, run_stage
from lookforward_toybox.training.state import load_settings, load_state, load_weights


@dataclass(frozen=True)
class DinoSizes:
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    image: int = 64
    patch: int = 8
    head_hidden: int = 512
    bottleneck: int = 256
    outputs: int = 2048
    local_image: int = 32
    local_crops: int = 2


def make_backbone(sizes: DinoSizes) -> ViTModel:
    config = ViTConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.hidden,
        image_size=sizes.image,
        patch_size=sizes.patch,
    )
    return ViTModel(config, add_pooling_layer=False)


class Head(nn.Module):
    """Class token (b, d) to scores (b, outputs) over prototypes of length one."""

    def __init__(self, sizes: DinoSizes) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(sizes.hidden, sizes.head_hidden),
            nn.GELU(),
            nn.Linear(sizes.head_hidden, sizes.bottleneck),
        )
        self.prototypes = nn.Parameter(torch.randn(sizes.outputs, sizes.bottleneck) * 0.02)

    def forward(self, token: Tensor) -> Tensor:
        return F.linear(F.normalize(self.mlp(token), dim=-1), F.normalize(self.prototypes, dim=-1))


class Distillation(nn.Module):
    """Student, its slow copy the teacher, and the running centre of the teacher's scores."""

    center: Tensor

    def __init__(self, sizes: DinoSizes) -> None:
        super().__init__()
        self.student = nn.ModuleDict({"backbone": make_backbone(sizes), "head": Head(sizes)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("center", torch.zeros(sizes.outputs))

    def tokens(self, network: nn.ModuleDict, images: Tensor) -> Tensor:
        """Class tokens of images (b, 3, h, w): (b, hidden)."""
        return network["backbone"](images, interpolate_pos_encoding=True).last_hidden_state[:, 0]

    def scores(self, network: nn.ModuleDict, images: Tensor) -> Tensor:
        """(b, 3, h, w) to (b, outputs), full precision."""
        return network["head"](self.tokens(network, images)).float()

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher towards the student."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)


def distillation_terms(
    model: Distillation,
    globals_: list[Tensor],
    locals_: list[Tensor],
    temperatures: tuple[float, float] = (0.1, 0.04),
    contrast_temperature: float = 0.1,
) -> dict[str, Tensor]:
    """Cross-entropy of every student view against every other global view of the teacher, plus the contrast.

    globals_: two (b, 3, h, w); locals_: any number of smaller (b, 3, s, s). Moves the centre.
    """
    count = len(globals_[0])
    with torch.no_grad():
        taught = model.scores(model.teacher, torch.cat(globals_))  # (2b, k)
        targets = ((taught - model.center) / temperatures[1]).softmax(dim=-1).split(count)
        model.center.lerp_(taught.mean(dim=0), 0.1)
    tokens = model.tokens(model.student, torch.cat(globals_))
    seen = list(model.student["head"](tokens).float().split(count))
    first, second = tokens.float().split(count)
    contrast, top1 = pair_contrast(first, second, contrast_temperature)
    if locals_:
        seen += model.scores(model.student, torch.cat(locals_)).split(count)
    losses = [
        -(target * (view / temperatures[0]).log_softmax(dim=-1)).sum(dim=-1).mean()
        for g, target in enumerate(targets)
        for v, view in enumerate(seen)
        if g != v
    ]
    # Collapse shows as `usage` falling to 0 (one prototype for all) or `doubt` rising to it (no choice).
    mean = torch.cat(targets).mean(dim=0)
    usage = -(mean * mean.clamp_min(1e-9).log()).sum()
    doubt = -(targets[0] * targets[0].clamp_min(1e-9).log()).sum(dim=-1).mean()
    distillation = torch.stack(losses).mean()
    return {
        "loss": distillation + contrast,
        "distillation": distillation,
        "contrast": contrast,
        "batch_top1": top1,
        "usage": usage,
        "doubt": doubt,
    }


def pair_views(
    images: Images, pairs: Tensor, sizes: DinoSizes, generator: torch.Generator, device: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Global views, one of each image of the pairs (b,), and local views, taken from both in turn."""
    both = [to_float(images[(2 * pairs + side).numpy()]).to(device) for side in (0, 1)]
    globals_ = [jitter(random_crops(x, sizes.image, (0.4, 1.0), generator), 0.15, generator) for x in both]
    locals_ = [
        jitter(random_crops(both[n % 2], sizes.local_image, (0.1, 0.4), generator), 0.15, generator)
        for n in range(sizes.local_crops)
    ]
    return globals_, locals_


def train_dino(
    data: Path,
    folder: Path,
    *,
    steps: int = 8_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 64,
    learning_rate: float = 1e-3,
    init: Path | None = None,
    sizes: DinoSizes | None = None,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the subject encoder on `batch` pairs a step, yielding log rows.

    init: an exported encoder of the same sizes to start from.
    """
    sizes = sizes or DinoSizes()
    images = open_images(data)
    pairs = train_count(len(images)) // 2
    torch.manual_seed(seed)  # initial weights
    model = Distillation(sizes)
    if init is not None:
        weights = ViTModel.from_pretrained(init, add_pooling_layer=False, dtype=torch.float32).state_dict()
        for network in (model.student, model.teacher):
            network["backbone"].load_state_dict(weights)
    for network in (model.student, model.teacher):
        unfuse_attention(network["backbone"], device)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(pairs, (batch,), generator=generator)
        return distillation_terms(model, *pair_views(images, index, sizes, generator, device))

    def follow(progress: float) -> None:
        model.follow(1 - (1 - 0.994) * 0.5 * (1 + math.cos(math.pi * progress)))

    schedule = TrainingSchedule(steps, learning_rate, minutes, weight_decay=0.04, ema_decay=None)
    yield from run_stage(
        folder=folder,
        module=model,
        loss=loss,
        schedule=schedule,
        seed=seed,
        settings=describe(
            "dino",
            dataclasses.asdict(sizes),
            data,
            schedule,
            seed,
            batch,
            begun_from=hash_file(init / "model.safetensors") if init else "chance",
        ),
        after_update=follow,
        batch=batch,
        device=device,
        log_every=log_every,
    )


def export_dino(folder: Path, target: Path) -> None:
    """Write the teacher's backbone in half precision, with its image processor."""
    settings = load_settings(folder)
    sizes = DinoSizes(**settings["sizes"])
    model = Distillation(sizes)
    load_weights(model, load_state(folder)[0])
    backbone = model.teacher["backbone"]
    assert isinstance(backbone, ViTModel)
    backbone.half().save_pretrained(target)
    describe_weights(target / "model.safetensors", settings)
    load_as_float32(target)
    ViTImageProcessor(
        size={"height": sizes.image, "width": sizes.image}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(target)


@torch.no_grad()
def evaluate_dino(folder: Path, data: Path, limit: int = 256, device: str = "cpu") -> dict[str, float]:
    """How well class tokens of an exported encoder separate held-out subjects.

    Returns top1, the share of first views whose nearest second view shows the same subject (0 to 1),
    the number of pairs, and the mean cosine similarity of the same and of different subjects.
    """
    # The processor resizes nothing at this size: the images go in directly.
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    nn.Module.to(model, device)  # transformers' own `to` is annotated wrongly
    images = open_images(data)
    held = images[train_count(len(images)) :][: 2 * limit]
    tokens = [model(part).last_hidden_state[:, 0] for part in to_float(held).to(device).split(64)]
    features = F.normalize(torch.cat(tokens), dim=-1)
    similarity = features[0::2] @ features[1::2].T  # (pairs, pairs)
    count = len(similarity)
    own = torch.eye(count, dtype=torch.bool, device=similarity.device)
    top1 = (similarity.argmax(dim=1) == torch.arange(count, device=similarity.device)).float().mean()
    return {
        "top1": float(top1),
        "pairs": float(count),
        "same": float(similarity[own].mean()),
        "different": float(similarity[~own].mean()),
    }
