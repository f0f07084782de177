"""Draw images with a pipeline: the same seed gives the same image, whatever else is drawn beside it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from numpy.typing import NDArray

from lookforward.errors import LookforwardError
from lookforward.models.latents import LARGE

# What Stable Diffusion's samplers say, for a pipeline whose own says nothing of it
_STABLE_DIFFUSION = {"steps_offset": 1, "set_alpha_to_one": False}
SchedulerName = Literal["ddim", "ddpm", "dpm++", "euler", "unipc"]
# Of a scheduler's settings, those that say what noise the model has learned
_NOISE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr",
)  # fmt: skip

_SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}


@torch.no_grad()
def draw_images(
    pipeline: StableDiffusionPipeline,
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
        raise LookforwardError(f"{len(prompts)} prompts and {len(seeds)} seeds: give one seed for each prompt.")
    check_steps(pipeline, steps)
    if not 0 <= min(seeds) <= max(seeds) < 2**63:
        raise LookforwardError(f"seed = {min(seeds)} to {max(seeds)} must lie in [0, 2^63).")
    if negative and guidance <= 1:
        raise LookforwardError(
            f"A negative prompt says nothing at guidance = {guidance:g}: set guidance above 1, or leave it out."
        )
    images = []
    large = (resolution or native_size(pipeline)) >= LARGE
    with _sampling(pipeline, scheduler), _one_by_one(pipeline, large):
        for start in range(0, len(prompts), batch):
            chosen = slice(start, start + batch)
            # One for each image: a scheduler that adds noise at each step draws that of an image from its own too
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[chosen]]
            drawn = pipeline(
                list(prompts[chosen]),
                negative_prompt=[negative] * len(generators) if negative else None,
                height=resolution,
                width=resolution,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generators,
                output_type="np",
                return_dict=False,
            )[0]
            images.append((np.asarray(drawn) * 255).round().astype(np.uint8))  # as diffusers does for PIL
    return np.concatenate(images)


def use_ddim(pipeline: StableDiffusionPipeline) -> None:
    """Sample with DDIM, the deterministic policy of the paper, on the pipeline's own noise schedule.

    What the pipeline's own sampler does not say is as in Stable Diffusion's: DDIM by itself would clip latents to
    [-1, 1], as if they were pixels.
    """
    config = pipeline.scheduler.config
    unsaid = {name: value for name, value in _STABLE_DIFFUSION.items() if name not in config}
    pipeline.scheduler = DDIMScheduler.from_config(config, **{**unsaid, "clip_sample": False})


def check_steps(pipeline: StableDiffusionPipeline, steps: int, name: str = "steps") -> None:
    """Raise LookforwardError for more steps of the sampler than the model has, or none; name: what they are called."""
    most = pipeline.scheduler.config["num_train_timesteps"] - 1
    if not 1 <= steps <= most:
        raise LookforwardError(f"{name} = {steps} must lie in [1, {most}].")


def native_size(pipeline: StableDiffusionPipeline) -> int:
    """Side in pixels of the images that the model draws where nothing else is asked for."""
    return int(pipeline.unet.config["sample_size"] * pipeline.vae_scale_factor)


def check_size(pipeline: StableDiffusionPipeline, resolution: int | None) -> None:
    """Raise LookforwardError for a resolution that the model cannot draw at; None is its own."""
    # Each level of the VAE and of the UNet halves the image once, but for the last
    unit = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config["block_out_channels"]) - 1)
    if resolution is not None and (resolution < unit or resolution % unit):
        near = max(unit, round(resolution / unit) * unit)
        raise LookforwardError(
            f"resolution = {resolution} does not fit this model: take a multiple of {unit}, such as {near}."
        )


def fingerprint(pipeline: StableDiffusionPipeline) -> str:
    """A short name of the weights, noise schedule and vocabulary that images depend on: equal for equal ones only.

    Names of weights are left out, and settings that only the sampler has: both change between versions of libraries.
    """
    digest = hashlib.blake2b(digest_size=10)
    schedule = {name: pipeline.scheduler.config.get(name) or None for name in _NOISE}
    settings = [schedule, pipeline.vae.config["scaling_factor"], pipeline.tokenizer.get_vocab()]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for module in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for one in sorted(_digest(weight) for weight in module.parameters()):
            digest.update(one)
    return digest.hexdigest()


def _digest(weight: torch.Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tuple(weight.shape)}".encode())
    digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


@contextmanager
def _one_by_one(pipeline: StableDiffusionPipeline, wanted: bool) -> Iterator[None]:
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
def _sampling(pipeline: StableDiffusionPipeline, scheduler: str | None) -> Iterator[None]:
    """Sample with another scheduler for a while, on the pipeline's own noise schedule."""
    if scheduler is not None and scheduler not in _SCHEDULERS:
        names = ", ".join(get_args(SchedulerName))
        raise LookforwardError(f"There is no scheduler {scheduler!r}; choose one of {names}.")
    own = pipeline.scheduler
    try:
        if scheduler is not None:
            pipeline.scheduler = _SCHEDULERS[scheduler].from_config(own.config)
        yield
    finally:
        pipeline.scheduler = own
