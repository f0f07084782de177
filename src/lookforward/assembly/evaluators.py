"""The encoders and scores that finished images are judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lookforward.bundle import bundle_of
from lookforward.errors import LookforwardError
from lookforward.models.encoders import (
    ClipEncoders,
    ImageEncoder,
    load_clip,
    load_dino,
    load_dinov2,
    load_embedding,
    to_unit,
)
from lookforward.models.encoders.perceptual import Distance, load_dreamsim, load_lpips, require_package
from lookforward.models.pipeline import find_device
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.scores.clip_image import ClipImageScore
from lookforward.scores.clip_text import ClipTextScore
from lookforward.scores.dino import DinoScore
from lookforward.scores.dinov2 import Dinov2Score
from lookforward.scores.diversity import DiversityScore
from lookforward.scores.dreamsim import DreamsimScore
from lookforward.scores.function import FunctionScore
from lookforward.scores.identity import IdentityScore
from lookforward.scores.oracle import OracleScore
from lookforward.scores.protocol import Score

EXTRA_SCORES = ("dinov2", "diversity", "dreamsim")
_PACKAGES = {"diversity": "lpips", "dreamsim": "dreamsim"}
DINOV2 = "facebook/dinov2-small"


@dataclass(frozen=True)
class Judges:
    """What scores are taken with. identity: for evaluation only, never a reward; on Toybox.

    dinov2, lpips, dreamsim: where their score was asked for. own: the user's functions, as module:function.
    """

    dino: ImageEncoder
    clip: ClipEncoders
    identity: ImageEncoder | None = None
    dinov2: ImageEncoder | None = None
    lpips: Distance | None = None
    dreamsim: Distance | None = None
    own: tuple[CallableReward, ...] = ()


def build_judges(
    model: str,
    dino: str | None = None,
    clip: str | None = None,
    device: str = "auto",
    extra: Sequence[str] = (),
    dinov2: str | None = None,
) -> Judges:
    """The benchmark's encoders, ViT-S/16 DINO and ViT-B/32 CLIP, or Toybox's own for Toybox.

    dino, clip, dinov2: other folders or hub ids to use; they preprocess as their authors do. extra: of EXTRA_SCORES, or
    module:function for a score of one's own.

    Raises:
        LookforwardError: a model cannot be loaded, or a package is missing.
    """
    device, bundle = find_device(device), bundle_of(model)
    return Judges(
        load_dino(dino or dino_source(model), device).published(),
        load_clip(clip or clip_source(model), device).published(),
        load_embedding(bundle.ENCODERS["identity"], device).published() if bundle else None,
        load_dinov2(dinov2 or DINOV2, device).published() if "dinov2" in extra else None,
        load_lpips(device) if "diversity" in extra else None,
        load_dreamsim(device) if "dreamsim" in extra else None,
        tuple(CallableReward(load_callable(name), name) for name in extra if ":" in name),
    )


def check_extra_scores(extra: Sequence[str], images: int) -> None:
    """Find what is wrong with the words for extra scores before anything runs. images: of each prompt.

    Raises:
        LookforwardError: there is no such score or function, its package is missing, or there is nothing to compare.
    """
    for name in extra:
        if ":" in name:
            load_callable(name)
        elif name not in EXTRA_SCORES:
            raise LookforwardError(
                f"There is no extra score {name!r}. There are: {', '.join(EXTRA_SCORES)}, and module:function for one "
                "of your own."
            )
        if name in _PACKAGES:
            require_package(_PACKAGES[name])
    if "diversity" in extra and images < 2:
        raise LookforwardError("diversity compares images of one prompt: give --images 2 or more.")


def dino_source(model: str) -> str:
    """The DINO that belongs to a model."""
    bundle = bundle_of(model)
    return str(bundle.ENCODERS["dino"]) if bundle else "facebook/dino-vits16"


def clip_source(model: str) -> str:
    """The CLIP that belongs to a model."""
    bundle = bundle_of(model)
    return str(bundle.ENCODERS["clip"]) if bundle else "openai/clip-vit-base-patch32"


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
    if judges.dinov2 is not None:
        scores.append(Dinov2Score(judges.dinov2, photos))
    if judges.dreamsim is not None:
        scores.append(DreamsimScore(judges.dreamsim, photos))
    if judges.lpips is not None:
        scores.append(DiversityScore(judges.lpips))
    return scores + [FunctionScore(one.name, one.ask) for one in judges.own]
