"""Draw images with a pipeline: the same seed gives the same image, whatever else is drawn beside it."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from numpy.typing import NDArray

from lookforward.errors import LookforwardError


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
) -> NDArray[np.uint8]:
    """One image for each pair of prompt and seed: (n, h, w, 3) uint8.

    steps: of the sampler; guidance: classifier-free guidance, 1 is none; resolution: pixels, the model's own
    where None. An image of a batch may differ from the same one drawn alone in the last bit.

    Raises:
        LookforwardError: prompts and seeds are not as many, or a number is out of range.
    """
    if len(prompts) != len(seeds) or not prompts:
        raise LookforwardError(f"{len(prompts)} prompts and {len(seeds)} seeds: give one seed for each prompt.")
    if steps < 1:
        raise LookforwardError(f"steps = {steps} must be at least 1.")
    if not 0 <= min(seeds) <= max(seeds) < 2**63:
        raise LookforwardError(f"seed = {min(seeds)} to {max(seeds)} must lie in [0, 2^63).")
    images = []
    for start in range(0, len(prompts), batch):
        chosen = slice(start, start + batch)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[chosen]]
        drawn = pipeline(
            list(prompts[chosen]),
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
    """Sample with DDIM, the deterministic policy of the paper, on the pipeline's own noise schedule."""
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
