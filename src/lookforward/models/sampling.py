"""Generate images with a pipeline: the same seed gives the same image in any batch."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from lookforward import stopping
from lookforward.errors import LookforwardError
from lookforward.models.digests import weight_digests
from lookforward.models.families import family_of
from lookforward.models.families.sd3 import t5_options
from lookforward.models.families.words import loads_words, written_out
from lookforward.models.ip_adapter import drawn_with_photos
from lookforward.models.latents import LARGE
from lookforward.models.low_precision import has_low_precision

MOST_PIXELS = 8192  # a side of an image
MOST_GUIDANCE, MOST_IMAGES = 100, 10_000
SchedulerName = Literal["ddim", "ddpm", "dpm++", "euler", "unipc"]


@torch.no_grad()
def draw_images(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    resolution: int | None = None,
    batch: int = 8,
    negative: str | None = None,
    scheduler: str | None = None,
) -> NDArray[np.uint8]:
    """One image for each pair of prompt and seed: (n, h, w, 3) uint8.

    steps: of the sampler; guidance: classifier-free guidance, 1 is none; resolution: pixels, the model's own
    where None; negative: a prompt to lead away from; scheduler: one of `SchedulerName`, the pipeline's own where
    None. An image of a batch may differ from the same one drawn alone in the last bit.

    Raises:
        LookforwardError: prompts and seeds are not as many, or a number is out of range.
    """
    if len(prompts) != len(seeds) or not prompts:
        raise LookforwardError(
            f"{len(prompts)} prompts and {len(seeds)} seeds: give one seed for each prompt.", code="seeds-prompts"
        )
    check_steps(pipeline, steps)
    check_numbers(seeds=seeds, guidance=guidance)
    if negative and guidance <= 1:
        raise LookforwardError(
            f"A negative prompt has no effect at guidance = {guidance:g}: set guidance above 1, or leave it out.",
            code="negative-without-guidance",
        )
    images = []
    family = family_of(pipeline)
    large = (resolution or family.native_size(pipeline)) >= LARGE
    with (
        _sampling(pipeline, scheduler),
        _one_by_one(pipeline, large),
        _in_its_precision(pipeline),
        _stoppable(pipeline),
    ):
        for start in range(0, len(prompts), batch):
            chosen = slice(start, start + batch)
            # One for each image: a scheduler that adds noise at each step draws that of an image from its own too
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[chosen]]
            drawn = pipeline(
                prompt=_written(pipeline, prompts[chosen]),
                height=resolution,
                width=resolution,
                num_inference_steps=steps,
                **family.drawing(guidance, _written(pipeline, [negative] * len(generators)) if negative else None),
                **drawn_with_photos(pipeline, guidance),
                **t5_options(pipeline),
                generator=generators,
                output_type="np",
                return_dict=False,
            )[0]
            if not np.isfinite(drawn).all():
                raise LookforwardError(
                    "The model draws images that are not finite: its weights are ruined, or the precision is too low. "
                    "Use an earlier export, or fp32.",
                    code="not-finite",
                )
            images.append((np.asarray(drawn) * 255).round().astype(np.uint8))  # as diffusers does for PIL
    return np.concatenate(images)


def _written(pipeline: Any, prompts: Sequence[str]) -> list[str]:
    """Prompts for the pipeline's call, with learned words written out if it does not do that itself."""
    words = family_of(pipeline).word_files
    return list(prompts) if loads_words(pipeline) or not words else written_out(pipeline.tokenizer, prompts)


def check_steps(pipeline: Any, steps: int, name: str = "steps") -> None:
    """Raise LookforwardError for more sampler steps than the model has timesteps, or none; name: of the setting."""
    most = pipeline.scheduler.config["num_train_timesteps"] - 1
    if not 1 <= steps <= most:
        raise LookforwardError(f"{name} = {steps} must be in [1, {most}].", code="steps-out-of-range")


def check_numbers(*, seeds: Sequence[int] = (), guidance: float | None = None) -> None:
    """Raise LookforwardError for numbers that no model can draw with; None is one that was not given."""
    if seeds and not 0 <= min(seeds) <= max(seeds) < 2**63:
        wrong = min(seeds) if min(seeds) < 0 else max(seeds)
        raise LookforwardError(f"seed = {wrong} must be in [0, 2^63).", code="seed-out-of-range")
    if guidance is not None and not 1 <= guidance <= MOST_GUIDANCE:  # below 1 it would draw as 1; nan is refused too
        raise LookforwardError(
            f"guidance = {guidance:g} must be in [1, {MOST_GUIDANCE}]; 1 turns it off.", code="guidance-range"
        )


def check_count(count: int, name: str = "count") -> None:
    """Raise LookforwardError for a number of images that is none, or more than anybody looks at."""
    if count < 1:
        raise LookforwardError(f"{name} = {count}: generate at least one image.", code="count-too-small")
    if count > MOST_IMAGES:
        raise LookforwardError(f"{name} = {count}: generate at most {MOST_IMAGES}.", code="count-too-large")


def check_size(pipeline: Any, resolution: int | None) -> None:
    """Raise LookforwardError for a resolution that the model cannot draw at; None is its own."""
    unit = family_of(pipeline).size_unit(pipeline)
    if resolution is not None and (not unit <= resolution <= MOST_PIXELS or resolution % unit):
        near = min(max(unit, round(resolution / unit) * unit), MOST_PIXELS // unit * unit)
        raise LookforwardError(
            f"resolution = {resolution} does not fit this model: use a multiple of {unit} up to {MOST_PIXELS}, such as "
            f"{near}.",
            code="resolution-does-not-fit",
        )


def fingerprint(pipeline: Any) -> str:
    """A short name of the weights, noise levels and vocabulary that images depend on: equal for equal ones only.

    Names of weights are left out, and settings that only the sampler has: both change between versions of libraries.
    """
    digest, family = hashlib.blake2b(digest_size=10), family_of(pipeline)
    digest.update(json.dumps(family.signature(pipeline), sort_keys=True, default=str).encode())
    encoders = [getattr(pipeline, name) for name in family.text_encoders if getattr(pipeline, name) is not None]
    for module in (getattr(pipeline, family.denoiser), *encoders, pipeline.vae):
        for one in weight_digests(module):
            digest.update(one)
    return digest.hexdigest()


def _in_its_precision(pipeline: Any) -> AbstractContextManager[object]:
    """Parts in bfloat16 beside others in single precision compute in bfloat16, as in training."""
    family = family_of(pipeline)
    parts = [getattr(pipeline, name) for name in (family.denoiser, *family.text_encoders)]
    if any(part is not None and has_low_precision(part) for part in parts):
        return torch.autocast(pipeline.device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def _stoppable(pipeline: Any) -> Iterator[None]:
    """Look for a stop before each step of the sampler."""
    denoiser: torch.nn.Module = getattr(pipeline, family_of(pipeline).denoiser)
    hook = denoiser.register_forward_pre_hook(lambda *_: stopping.check())
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _one_by_one(pipeline: Any, wanted: bool) -> Iterator[None]:
    """Decode a batch of images one by one for a while, which takes less memory."""
    if not wanted or pipeline.vae.use_slicing:
        yield
        return
    pipeline.vae.enable_slicing()
    try:
        yield
    finally:
        pipeline.vae.disable_slicing()


@contextmanager
def _sampling(pipeline: Any, scheduler: str | None) -> Iterator[None]:
    """Sample with another scheduler for a while, on the pipeline's own noise levels."""
    known = family_of(pipeline).schedulers
    if scheduler is not None and scheduler not in known:
        raise LookforwardError(
            f"There is no scheduler {scheduler!r} for this model; choose one of {', '.join(known)}.",
            code="scheduler-unknown",
        )
    own = pipeline.scheduler
    try:
        if scheduler is not None:
            pipeline.scheduler = getattr(diffusers, known[scheduler]).from_config(own.config)
        yield
    finally:
        pipeline.scheduler = own
