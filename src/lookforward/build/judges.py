"""The encoders and scores that finished images are judged by."""

from dataclasses import dataclass

import numpy as np
import torch

from lookforward.build.pipeline import find_device
from lookforward.config import TOYBOX
from lookforward.metrics.clip_image import ClipImageScore
from lookforward.metrics.clip_text import ClipTextScore
from lookforward.metrics.dino import DinoScore
from lookforward.metrics.identity import IdentityScore
from lookforward.metrics.oracle import OracleScore
from lookforward.metrics.protocol import Score
from lookforward.toybox import CLIP, DINO, IDENTITY
from lookforward.vision import ClipEncoders, ImageEncoder, load_clip, load_dino, load_embedding, to_unit


@dataclass(frozen=True)
class Judges:
    """The encoders that scores are taken with. identity: for evaluation only, never a reward; on Toybox."""

    dino: ImageEncoder
    clip: ClipEncoders
    identity: ImageEncoder | None = None


def build_judges(model: str, dino: str | None = None, clip: str | None = None, device: str = "auto") -> Judges:
    """The benchmark's encoders, ViT-S/16 DINO and ViT-B/32 CLIP, or Toybox's own for Toybox.

    dino, clip: other folders or hub ids to use.
    """
    device = find_device(device)
    return Judges(
        load_dino(dino or dino_source(model), device),
        load_clip(clip or clip_source(model), device),
        load_embedding(IDENTITY, device) if model == TOYBOX else None,
    )


def dino_source(model: str) -> str:
    """The DINO that belongs to a model."""
    return str(DINO) if model == TOYBOX else "facebook/dino-vits16"


def clip_source(model: str) -> str:
    """The CLIP that belongs to a model."""
    return str(CLIP) if model == TOYBOX else "openai/clip-vit-base-patch32"


def build_scores(judges: Judges, references: np.ndarray, drawing: np.ndarray | None = None) -> list[Score]:
    """The scores of one subject.

    references: (k, h, w, 3) uint8; drawing: the subject alone, (h, w, 4) in [0, 1], where the world knows it.
    """
    photos = to_unit(references)
    scores: list[Score] = [
        DinoScore(judges.dino, photos),
        ClipImageScore(judges.clip.image, photos),
        ClipTextScore(judges.clip),
    ]
    if judges.identity is not None:
        scores.append(IdentityScore(judges.identity, photos))
    if drawing is not None:
        scores.append(OracleScore(torch.from_numpy(drawing).permute(2, 0, 1)))
    return scores
