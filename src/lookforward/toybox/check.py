"""What the shipped models can do, in figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lookforward.errors import LookforwardError
from lookforward.toybox.world.captions import OPENINGS
from lookforward.toybox.world.picture import draw_picture, draw_view
from lookforward.toybox.world.scenes import SCENES
from lookforward.toybox.world.subject import BODY_COLOURS, CLASSES, draw_pretraining_subject, held_out


@dataclass(frozen=True)
class Figure:
    """One figure: its name, the goal of the full edition, what was reached, and its unit."""

    name: str
    goal: float | None
    reached: float
    unit: str = ""


@dataclass(frozen=True)
class Request:
    """What an image was asked to show."""

    class_noun: str
    colour: str
    scene: str

    @property
    def prompt(self) -> str:
        return f"{OPENINGS[0]} {self.colour} {self.class_noun} {SCENES[self.scene]}"


def draw_requests(count: int, seed: int = 0) -> list[Request]:
    """Requests in the style of the pretraining captions, every class and scene equally often."""
    rng = np.random.default_rng(seed)
    scenes = list(SCENES)
    return [
        Request(
            CLASSES[i % len(CLASSES)],
            BODY_COLOURS[rng.integers(len(BODY_COLOURS))],
            scenes[i // len(CLASSES) % len(scenes)],
        )
        for i in range(count)
    ]


def draw_real(requests: list[Request], seed: int = 1, size: int = 64) -> np.ndarray:
    """What the world itself draws for the requests: (n, size, size, 3) uint8. The judge's own ceiling."""
    rng = np.random.default_rng(seed)
    images = []
    for request in requests:
        while (subject := draw_pretraining_subject(rng, request.class_noun)).colour != request.colour:
            pass
        images.append(draw_picture(subject, draw_view(rng, request.scene), rng, size))
    return np.stack(images)


def held_out_pictures(views: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of every held-out subject in different scenes: (n, size, size, 3) uint8, and whose they are (n,)."""
    rng = np.random.default_rng(7)
    scenes = list(SCENES)
    images, owners = [], []
    for i, subject in enumerate(held_out().values()):
        for scene in rng.permutation(len(scenes))[:views]:
            images.append(draw_picture(subject, draw_view(rng, scenes[scene]), rng, size))
            owners.append(i)
    return np.stack(images), np.array(owners)


def retrieval(embeddings: torch.Tensor, owners: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """How well unit embeddings (n, d) of pictures in different scenes tell their `owners` (n,) apart.

    classes: (n,) of each picture. top1: part of the pictures whose nearest other picture shows the same subject.
    same, class, different: mean cosine similarity within a subject, between subjects of one class, and of two.
    """
    similarity = embeddings @ embeddings.T
    own = torch.from_numpy(owners[:, None] == owners[None])
    kin = torch.from_numpy(classes[:, None] == classes[None])
    itself = torch.eye(len(owners), dtype=torch.bool)
    nearest = similarity.masked_fill(itself, -2).argmax(dim=1)
    hits = torch.from_numpy(owners)[nearest] == torch.from_numpy(owners)
    return {
        "top1": float(hits.float().mean()),
        "same": float(similarity[own & ~itself].mean()),
        "class": float(similarity[kin & ~own].mean()),
        "different": float(similarity[~kin].mean()),
    }


def subject_classes() -> np.ndarray:
    """Class of each held-out subject, in their order."""
    return np.array([subject.class_noun for subject in held_out().values()])


def named_right(embeddings: torch.Tensor, texts: torch.Tensor, right: Sequence[int]) -> float:
    """Part of the images (n, d) nearest to their own one of the texts (k, d)."""
    return float(((embeddings @ texts.T).argmax(dim=1) == torch.tensor(list(right))).float().mean())


def require_weights(folder: Path) -> None:
    """Say what to do where the models are not there yet."""
    if not folder.is_dir():
        raise LookforwardError(f"{folder} is missing: train the stage first with `lookforward toybox train`.")
