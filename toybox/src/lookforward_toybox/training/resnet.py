"""Train the two convolutional networks for evaluation only: what a picture shows, and which subject.

Neither shares a weight or an architecture with the shipped CLIP and DINO. The identity encoder learns by the contrast
of pairs that is half of DINO's loss, on the same pictures: what such a contrast overlooks, both overlook.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel, ViTImageProcessor

from lookforward.errors import LookforwardError
from lookforward_toybox.labels import BASE, LABELS, LabelSet, find_groups
from lookforward_toybox.training.augment import jitter, random_crops
from lookforward_toybox.training.contrast import pair_contrast
from lookforward_toybox.training.data import describe_weights, open_images, to_float, train_count
from lookforward_toybox.training.loop import TrainingSchedule, describe, run_stage
from lookforward_toybox.training.state import load_averaged, load_settings


@dataclass(frozen=True)
class ResnetSizes:
    stem: int = 32
    hidden: tuple[int, ...] = (48, 96, 160, 256)
    depths: tuple[int, ...] = (1, 2, 2, 1)
    image: int = 64


JUDGE = ResnetSizes(hidden=(40, 80, 128, 160))  # naming a class is easier than recognising a subject


def make_config(sizes: ResnetSizes, **more: Any) -> ResNetConfig:
    return ResNetConfig(
        embedding_size=sizes.stem,
        hidden_sizes=list(sizes.hidden),
        depths=list(sizes.depths),
        layer_type="basic",
        **more,
    )


def make_judge(sizes: ResnetSizes, labels: Sequence[str]) -> ResNetForImageClassification:
    names = dict(enumerate(labels))
    return ResNetForImageClassification(
        make_config(sizes, id2label=names, label2id={name: i for i, name in names.items()})
    )


def train_judge(
    data: Path,
    folder: Path,
    *,
    steps: int = 4_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 96,
    learning_rate: float = 2e-3,
    sizes: ResnetSizes | None = None,
    labels: LabelSet = BASE,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the judge, which classifies what the `labels` of a picture are. Yields log rows."""
    sizes = sizes or JUDGE
    images = open_images(data)
    targets = _read_labels(data, labels)  # (n, groups)
    count = train_count(len(images))
    torch.manual_seed(seed)  # initial weights
    model = make_judge(sizes, labels.labels)
    _channels_last(model)
    groups = find_groups(labels.labels)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(count, (batch,), generator=generator)
        views = random_crops(to_float(images[index.numpy()]).to(device), sizes.image, (0.8, 1.0), generator)
        logits = model(jitter(views, 0.05, generator)).logits.float()  # (b, labels)
        wanted = targets[index].to(device)
        losses = {
            group: F.cross_entropy(logits[:, part], wanted[:, i], label_smoothing=0.05)
            for i, (group, part) in enumerate(groups.items())
        }
        return {"loss": torch.stack(list(losses.values())).sum()} | losses

    schedule = TrainingSchedule(steps, learning_rate, minutes, weight_decay=0.05)
    yield from run_stage(
        folder=folder,
        module=model,
        loss=loss,
        schedule=schedule,
        seed=seed,
        settings=describe("judge", dataclasses.asdict(sizes), data, schedule, seed, batch, labels=list(labels.labels)),
        batch=batch,
        device=device,
        log_every=log_every,
    )


def train_identity(
    data: Path,
    folder: Path,
    *,
    steps: int = 6_000,
    minutes: float | None = None,
    seed: int = 1,
    device: str = "cpu",
    batch: int = 96,
    learning_rate: float = 2e-3,
    temperature: float = 0.1,
    sizes: ResnetSizes | None = None,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Train or resume the second identity encoder on `batch` pairs a step. Yields log rows.

    Contrast of pairs (van den Oord et al., 2018): both pictures of a pair show one subject in two scenes, and
    all others of the batch show someone else.
    """
    sizes = sizes or ResnetSizes()
    images = open_images(data)
    pairs = train_count(len(images)) // 2
    torch.manual_seed(seed)  # initial weights
    model = ResNetModel(make_config(sizes))
    _channels_last(model)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(pairs, (batch,), generator=generator)
        both = torch.cat([to_float(images[(2 * index + side).numpy()]) for side in (0, 1)]).to(device)
        views = jitter(random_crops(both, sizes.image, (0.6, 1.0), generator), 0.1, generator)
        first, second = model(views).pooler_output.flatten(1).float().split(batch)
        value, top1 = pair_contrast(first, second, temperature)
        return {"loss": value, "batch_top1": top1}

    schedule = TrainingSchedule(steps, learning_rate, minutes, weight_decay=0.05)
    yield from run_stage(
        folder=folder,
        module=model,
        loss=loss,
        schedule=schedule,
        seed=seed,
        settings=describe("identity", dataclasses.asdict(sizes), data, schedule, seed, batch),
        batch=batch,
        device=device,
        log_every=log_every,
    )


def export_resnet(folder: Path, target: Path) -> None:
    """Write the averaged network of either stage in half precision, with its image processor."""
    settings = load_settings(folder)
    sizes = ResnetSizes(**settings["sizes"])
    model: nn.Module
    if settings["stage"] == "judge":
        model = make_judge(sizes, settings.get("labels", LABELS))
    else:
        model = ResNetModel(make_config(sizes))
    load_averaged(folder, model)
    model.half().save_pretrained(target)  # pyright: ignore[reportCallIssue]
    describe_weights(target / "model.safetensors", settings)
    ViTImageProcessor(
        size={"height": sizes.image, "width": sizes.image}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(target)


def _channels_last(model: Any) -> None:
    """Lay out a network's weights so that it trains a quarter faster on a processor, in place."""
    model.to(memory_format=torch.channels_last)


def _read_labels(data: Path, labels: LabelSet) -> Tensor:
    """(n, groups) int64: what the world knows of each picture."""
    path = data / "subjects.json"
    if not path.is_file():
        raise LookforwardError(
            f"{data} has no subjects.json; draw the training data again.", code="toybox-data-missing"
        )
    facts = json.loads(path.read_text(encoding="utf-8"))
    return torch.tensor([labels.ids(fact) for fact in facts])
