"""Speed and peak memory of every model family at its real size, with random weights, on a CUDA GPU.

    python benchmarks/gpu.py                        all models of src/lookforward/models/sizes, at 512 and 1024 pixels
    python benchmarks/gpu.py z-image --side 512

A step is lookforward's own: a LoRA of rank 16 on the denoiser, Look Forward and its critic, one photo, in bfloat16 with
gradient checkpointing. Encoders and autoencoder are not there, as with `model.unload` and `model.cache`. The smallest
models come first. What does not fit by arithmetic is not tried. It ends within ten minutes: after nine, no model begins
and a measurement ends with the step that it is at. Without a GPU it says so, and does nothing.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from lookforward.adapters.lora import LoraAdapter
from lookforward.algorithm.environment import Environment
from lookforward.algorithm.examples import Examples, PromptCache
from lookforward.algorithm.returns import Target
from lookforward.algorithm.step import train_step
from lookforward.algorithm.trainer import CriticUpdater, Objective, Trainer, train
from lookforward.core.types import CachedLatents
from lookforward.critics.residual import ResidualCritic
from lookforward.critics.scale import ReturnScale
from lookforward.critics.value import ScaledCritic
from lookforward.models.live import activation_bytes
from lookforward.models.memory import frozen_bytes, gradient_bytes, moment_bytes
from lookforward.models.meta import known_pipeline, known_prompt, known_sizes, meta_latents, meta_module
from lookforward.models.policy import DiffusionPolicy
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.rewards.weighted import WeightedSum

SECONDS = 540.0
RANK, WARM, STEPS = 16, 2, 8


class KnownPrompt:
    """Encodes every prompt as the same random numbers."""

    def __init__(self, size: Mapping[str, Any], device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = known_prompt(size)
        self.prompt = shapes.to(device) if shapes.tokens.device.type != "meta" else _filled(shapes, generator, device)

    def encode_prompts(self, prompts: Any) -> Any:
        return self.prompt.expand(len(prompts))


def _filled(shapes: Any, generator: torch.Generator, device: str) -> Any:
    from lookforward.core.types import map_tensors

    return map_tensors(
        shapes,
        lambda x: x.to(device) if x.dtype == torch.bool else torch.randn(x.shape, generator=generator).to(device),
    )


def trainer_of(size: Mapping[str, Any], side: int, device: str) -> Trainer:
    """A run of one model on random weights."""
    pipeline = known_pipeline(size)
    from lookforward.models.families import family_of

    name = family_of(pipeline).denoiser
    latents = meta_latents(pipeline, side, 2)
    torch.set_default_dtype(torch.bfloat16)
    try:
        setattr(pipeline, name, meta_module(*size["modules"][name], device=device))
    finally:
        torch.set_default_dtype(torch.float32)
    pipeline.register_modules(**{name: getattr(pipeline, name)})
    policy = DiffusionPolicy(pipeline, "bf16", side)
    policy.denoiser.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    policy.denoiser.train()
    adapter = LoraAdapter(RANK, float(RANK), False, False, torch.Generator().manual_seed(0))
    parameters = adapter.attach(policy)
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    network = ResidualCritic(*latents[1:], generator=generators[3])
    critic = ScaledCritic(network, ReturnScale(policy.path.timesteps, 0), None).to(device)
    mean = torch.randn(latents, generator=generators[3]).to(device)
    return Trainer(
        take_step=train_step,
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(parameters.values(), lr=1e-6),
        environment=Environment(WeightedSum([(1.0, LookForwardReward())])),
        critic_updater=CriticUpdater(
            critic, torch.optim.SGD(critic.trained_parameters(), lr=1e-6), Target("one-step", 1.0)
        ),
        reward_gradient=False,
        objective=Objective(1.0, 1.0, 0.0, 0.9986),
        references=Examples(CachedLatents(mean, torch.zeros_like(mean), 1.0), ("a photo of sks dog",) * len(mean)),
        class_images=None,
        prompts=PromptCache(KnownPrompt(size, device), trained=False),
        batch_size=1,
        max_grad_norm=1.0,
        generator=generators[0],
        critic_generator=generators[1],
        adapter_generator=generators[2],
    )


def measure(size: Mapping[str, Any], side: int, device: str, end: float = math.inf) -> dict[str, float]:
    """Seconds of a step, the peak of memory in GiB, and how many steps they were measured on.

    end: as `time.monotonic` counts, when a measurement stops after the step that it is at.
    """
    if cuda := device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = trainer_of(size, side, device)
    for _ in train(trainer, WARM):
        pass
    if cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in train(trainer, WARM + STEPS):
        if time.monotonic() > end:
            break
    if cuda:
        torch.cuda.synchronize()
    steps = trainer.step - WARM
    seconds = (time.perf_counter() - started) / steps
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    return {"seconds": seconds, "peak": peak, "steps": steps}


def estimate(size: Mapping[str, Any], side: int) -> int:
    """Bytes of the same run by arithmetic, on the meta device."""
    pipeline = known_pipeline(size)
    policy = DiffusionPolicy(pipeline, "bf16", side)
    adapter = LoraAdapter(RANK, float(RANK), False, False, torch.Generator().manual_seed(0))
    trained = list(adapter.attach(policy).values())
    weights = frozen_bytes([policy.denoiser], "bf16", "bf16") + 4 * sum(one.numel() for one in trained)
    rest = gradient_bytes(trained) + moment_bytes(trained)
    policy.denoiser.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    latents = meta_latents(pipeline, side, 1)
    given = {"dtype": torch.bfloat16, "trained": False}
    return weights + rest + activation_bytes(policy.family, policy.denoiser, latents, known_prompt(size), **given)


def run(
    sizes: Mapping[str, Mapping[str, Any]],
    sides: Iterable[int],
    device: str,
    seconds: float = SECONDS,
    room: float = math.inf,
) -> list[str]:
    """Lines of a table, printed as they come; nothing begins after so many seconds. room: bytes of the GPU."""
    end = time.monotonic() + seconds
    lines = ["| model | pixels | seconds a step | peak, GiB | by arithmetic, GiB |", "|---|---|---|---|---|"]
    print(*lines, sep="\n", flush=True)
    for name, size in sorted(sizes.items(), key=lambda one: one[1]["billions"]):
        for side in sides:
            if time.monotonic() > end:
                line = f"| {name} | {side} | – | – | no time left |"
            else:
                line = _line(name, size, side, device, end, room)
            if device == "cuda":
                torch.cuda.empty_cache()
            lines.append(line)
            print(line, flush=True)
    return lines


def _line(name: str, size: Mapping[str, Any], side: int, device: str, end: float, room: float) -> str:
    estimated = estimate(size, side)
    gigabytes = f"{estimated / 2**30:.1f}"
    if estimated > room:
        return f"| {name} | {side} | – | does not fit | {gigabytes} |"
    try:
        found = measure(size, side, device, end)
    except torch.OutOfMemoryError:
        return f"| {name} | {side} | – | does not fit | {gigabytes} |"
    return f"| {name} | {side} | {found['seconds']:.3f} | {found['peak']:.1f} | {gigabytes} |"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", help="some of " + ", ".join(known_sizes()))
    parser.add_argument("--side", type=int, nargs="*", default=[512, 1024], help="pixels of a side")
    asked = parser.parse_args(words)
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing to measure.")
        return 0
    known = known_sizes()
    if unknown := set(asked.models) - set(known):
        print(f"There is no model {', '.join(sorted(unknown))}; known: {', '.join(known)}.", file=sys.stderr)
        return 2
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    room = torch.cuda.get_device_properties(0).total_memory
    run({name: known[name] for name in asked.models or known}, asked.side, "cuda", room=room)
    return 0


if __name__ == "__main__":
    sys.exit(main())
