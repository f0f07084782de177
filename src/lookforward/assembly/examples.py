"""Training examples of a run: the photos' views, encoded."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lookforward.algorithm.examples import Buckets, Examples
from lookforward.config.settings import Settings
from lookforward.core.protocols import Family
from lookforward.data.boxes import Cut
from lookforward.data.buckets import in_buckets, read_resolutions
from lookforward.data.mask_weights import latent_weights
from lookforward.data.subject import Subject
from lookforward.data.views import View, make_views
from lookforward.models.encoders import to_unit
from lookforward.models.encoding_cache import EncodingCache
from lookforward.models.latents import encode
from lookforward.models.policy import DiffusionPolicy


def build_references(
    settings: Settings, subject: Subject, policy: DiffusionPolicy, cache: EncodingCache | None
) -> Examples | Buckets:
    """The views of all photos that a step may draw, encoded; in buckets by shape, if there are several."""
    if settings.data.buckets:
        unit = policy.family.size_unit(policy.pipeline)
        resolutions = read_resolutions(settings.data.resolution, settings.data.bucket_resolutions)
        subject = in_buckets(subject, resolutions, unit)
    views = make_views(
        subject,
        flip=settings.data.flip,
        augment=settings.data.augment_views if settings.data.augment else 0,
        seed=settings.run.seed,
    )
    shapes = dict.fromkeys(view.pixels.shape for view in views)
    several = bool(subject.others)
    parts = [
        _encode([v for v in views if v.pixels.shape == shape], settings, policy, cache, several) for shape in shapes
    ]
    return parts[0] if len(parts) == 1 else Buckets(tuple(parts))


def _encode(
    views: Sequence[View], settings: Settings, policy: DiffusionPolicy, cache: EncodingCache | None, several: bool
) -> Examples:
    """Views of one shape. several: whether they may show several subjects."""
    photos = to_unit(np.stack([view.pixels for view in views])).to(policy.device)
    encoded = partial(encode, policy.pipeline)
    latents = cache.latents(photos, encoded) if cache else encoded(photos)
    height, width = latents.mean.shape[2:]
    masks = latent_weights(views, height, width, settings.data.background_weight)
    return Examples(
        latents,
        tuple(view.prompt for view in views),
        tuple(view.plain_prompt for view in views),
        photos,
        None if masks is None else masks.to(policy.device),
        torch.tensor([view.subject for view in views], device=policy.device) if several else None,
        tuple(view.more_prompts for view in views),
        settings.data.caption_dropout,
        sizes_of([view.cut for view in views], policy.family, policy.device),
    )


def sizes_of(cuts: Sequence[Cut | None], family: Family, device: torch.device) -> Tensor | None:
    """`Batch.sizes` of parts of photos, (n, 4); None for a family that is not shown them."""
    if "sizes" not in family.capabilities:
        return None
    return torch.tensor([cut.sizes for cut in cuts if cut], dtype=torch.float32, device=device)


def reference_photos(subject: Subject, policy: DiffusionPolicy) -> list[Tensor]:
    """What rewards compare with: of each subject the squares of its photos (k, 3, h, w), as they are."""
    return [
        to_unit(np.stack([square for photo in one.photos for square in photo.squares])).to(policy.device)
        for one in subject.together
    ]
