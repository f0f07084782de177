"""A whole run beside diffusers' own script for the model: start-up, class images, training and export.

    python benchmarks/whole_run.py --yardstick diffusers/examples/dreambooth/train_dreambooth.py --core 1
    python benchmarks/whole_run.py --model FOLDER --yardstick …/train_dreambooth_sd3.py --core 1

Both draw 32 class images with as many steps of the sampler (50, or 28 on SD3's kind), train on one photo and one class
image a step, and save a pipeline. They run in turn, one thread a process; the times are those of the whole process.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from sides import Side, as_options, find_side, script_arguments
from step import make_photos
from timing import HERE, add_options, command_time, medians, place_of, report


def yardstick(asked: argparse.Namespace, side: Side, photos: Path, folder: Path) -> list[Any]:
    given = script_arguments(side, photos, folder / "drawn", folder / "output", asked.steps, asked.class_images)
    return [sys.executable, HERE / "yardstick.py", asked.yardstick, *given]


def own(asked: argparse.Namespace, side: Side, name: str, photos: Path, folder: Path) -> list[Any]:
    recipe, given = side.own(asked.recipes)[name]
    settings = given | {
        "data.class_images": asked.class_images, "data.class_image_steps": side.sampler_steps,
        "evaluation.sample_every": 0, "evaluation.guidance": side.guidance,
    }  # fmt: skip
    return [
        sys.executable, "-m", "lookforward", "train", photos, "--recipe", recipe, "--output", folder / "run",
        "--class-noun", "teapot", "--steps", asked.steps, "--device", "cpu", *as_options(settings),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--yardstick", type=Path, required=True, help="path of diffusers' script for this model")
    parser.add_argument(
        "--model", default="toybox-sd", help="a bundled model, or a pipeline folder of SD1's or SD3's kind"
    )
    parser.add_argument("--recipes", nargs="+", default=["look-forward"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--class-images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    add_options(parser)
    asked = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as shared:
        side = find_side(asked.model, Path(shared))
        for _ in range(asked.rounds):
            for name in (side.script, *side.own(asked.recipes)):
                with tempfile.TemporaryDirectory() as folder:
                    photos, _ = make_photos(Path(folder))
                    os.environ["LOOKFORWARD_CACHE"] = str(Path(folder) / "cache")  # so that class images are drawn
                    given = photos, Path(folder)
                    script = name == side.script
                    command = yardstick(asked, side, *given) if script else own(asked, side, name, *given)
                    rounds.setdefault(name, []).append(command_time(command, place_of(asked)))
    about = {"steps": asked.steps, "class_images": asked.class_images, "threads": asked.threads}
    report("whole run", medians(rounds), side.script, asked.output, **about)


if __name__ == "__main__":
    main()
