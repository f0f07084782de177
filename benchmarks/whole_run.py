"""A whole run beside diffusers' train_dreambooth.py: start-up, class images, training and export, on Toybox.

    python benchmarks/whole_run.py --yardstick diffusers/examples/dreambooth/train_dreambooth.py --core 1

Both draw 32 class images with 50 steps of the sampler, train UNet and text encoder on one photo and one class image a
step, and save a pipeline. They run in turn, one thread a process; the times are those of the whole process.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from step import YARDSTICK, make_photos, yardstick_arguments
from timing import HERE, command_time, medians, report


def yardstick(asked: argparse.Namespace, photos: Path, folder: Path) -> list[Any]:
    from lookforward_toybox.bundle import PIPELINE

    given = yardstick_arguments(PIPELINE, photos, folder / "drawn", folder / "output", asked.steps)
    given[given.index("--num_class_images") + 1] = asked.class_images
    return [sys.executable, HERE / "yardstick.py", asked.yardstick, *given]


def own(asked: argparse.Namespace, recipe: str, photos: Path, folder: Path) -> list[Any]:
    return [
        sys.executable, "-m", "lookforward", "train", photos, "--recipe", recipe, "--output", folder / "run",
        "--class-noun", "teapot", "--steps", asked.steps, "--device", "cpu", "--data.class-images", asked.class_images,
        "--data.class-image-steps", 50, "--evaluation.sample-every", 0,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--yardstick", type=Path, required=True, help="path of diffusers' train_dreambooth.py")
    parser.add_argument("--recipes", nargs="+", default=["look-forward"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--class-images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--core", type=int, help="that every process is pinned to")
    parser.add_argument("--output", type=Path, help="JSON file")
    asked = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {}
    for _ in range(asked.rounds):
        for name in (YARDSTICK, *asked.recipes):
            with tempfile.TemporaryDirectory() as folder:
                photos, _ = make_photos(Path(folder))
                os.environ["LOOKFORWARD_CACHE"] = str(Path(folder) / "cache")  # so that class images are drawn
                given = photos, Path(folder)
                command = yardstick(asked, *given) if name == YARDSTICK else own(asked, name, *given)
                rounds.setdefault(name, []).append(command_time(command, asked.core))
    report("whole run", medians(rounds), YARDSTICK, asked.output, steps=asked.steps, class_images=asked.class_images)


if __name__ == "__main__":
    main()
