"""Drawing 100 images, and scoring them, on Toybox.

    python benchmarks/drawing.py --core 1 --output drawing.json

Drawing: lookforward's batches beside the same diffusers pipeline called prompt by prompt, in turns within one process.
Scoring: DINO, CLIP-I and CLIP-T together, beside each score alone; and how often each encoder saw an image.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import report

SCENES = ("on the beach", "in the snow", "on a cobblestone street", "with a city in the background")


def clocked(work: Callable[[], Any]) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def in_turn(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of rounds in which each is called once."""
    found = [{name: clocked(work) for name, work in works.items()} for _ in range(rounds)]
    return {
        name: {clock: statistics.median(one[name][clock] for one in found) for clock in ("cpu", "wall")}
        for name in works
    }


def main() -> None:
    from lookforward.assembly import build_evaluators, build_scores
    from lookforward.models.load_pipeline import build_pipeline
    from lookforward.models.sampling import draw_images
    from lookforward.scores.evaluate import score_images

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=25, help="of the sampler")
    parser.add_argument("--scored", type=int, default=1000, help="images that are scored: those drawn, over and over")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, help="that the process is pinned to")
    parser.add_argument("--output", type=Path, help="JSON file, without its ending")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    pipeline = build_pipeline("toybox", "cpu")
    pipeline.set_progress_bar_config(disable=True)
    prompts = [f"a photo of a teapot {SCENES[i % len(SCENES)]}" for i in range(asked.images)]
    drawn: list[Any] = []

    def one_by_one() -> None:
        for seed, prompt in enumerate(prompts):
            generator = torch.Generator().manual_seed(seed)
            pipeline(prompt, num_inference_steps=asked.steps, guidance_scale=4.0, generator=generator, output_type="np")

    def batched() -> None:
        drawn[:] = [draw_images(pipeline, prompts, range(asked.images), steps=asked.steps, guidance=4.0)]

    found = in_turn({"pipeline, prompt by prompt": one_by_one, "lookforward": batched}, asked.rounds)
    about = {"images": asked.images, "steps": asked.steps, "rounds": asked.rounds}
    file = asked.output
    report("drawing", found, "pipeline, prompt by prompt", file and file.with_suffix(".drawing.json"), **about)

    images = np.resize(drawn[0], (asked.scored, *drawn[0].shape[1:]))
    texts = [prompts[i % len(prompts)] for i in range(asked.scored)]
    scores = build_scores(build_evaluators("toybox", device="cpu"), images[:5])

    def apart() -> None:
        for score in scores:
            score_images([score], images, texts)

    def together() -> None:
        score_images(scores, images, texts)

    found = in_turn({"each score alone": apart, "together": together}, asked.rounds)
    names = [score.name for score in scores]
    report(
        "scoring",
        found,
        "each score alone",
        file and file.with_suffix(".scoring.json"),
        scores=names,
        scored=asked.scored,
    )


if __name__ == "__main__":
    main()
