"""The time of a training step beside diffusers' train_dreambooth.py, on Toybox.

    python benchmarks/step.py --yardstick diffusers/examples/dreambooth/train_dreambooth.py --core 1 --output step.json

Both train UNet and text encoder on one photo and one class image a step, in single precision, one thread a process.
They run in turn, several rounds; the table has medians. Without --yardstick the table has lookforward's recipes alone.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from timing import WARM, medians, python, report

YARDSTICK = "train_dreambooth.py"


def yardstick_arguments(model: Path, photos: Path, class_images: Path, output: Path, steps: int) -> list[Any]:
    """What both train on, as the script's options."""
    texts = ["--instance_prompt", "a photo of sks teapot", "--class_prompt", "a photo of a teapot"]
    return [
        "--pretrained_model_name_or_path", model, "--instance_data_dir", photos, "--class_data_dir", class_images,
        "--num_class_images", 4, "--with_prior_preservation", *texts, "--resolution", 64, "--train_text_encoder",
        "--train_batch_size", 1, "--learning_rate", 1.8e-4, "--max_train_steps", steps, "--output_dir", output,
        "--lr_scheduler", "constant", "--lr_warmup_steps", 0,
    ]  # fmt: skip


def make_photos(folder: Path) -> tuple[Path, Path]:
    """Toybox's first subject, and four images that stand for the class; the script reads every file of a folder."""
    from lookforward_toybox.subjects import write_photos

    photos, class_images = folder / "photos", folder / "class"
    for where, subject in ((photos, "teapot-0"), (class_images, "vase-0")):
        write_photos(subject, where)
        for file in where.iterdir():
            if file.suffix != ".png":
                file.unlink()
    return photos, class_images


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of a step by CPU and wall clock, of each command."""
    from lookforward_toybox.bundle import PIPELINE

    photos, class_images = make_photos(folder)
    steps, rounds = asked.steps + WARM + 1, {}
    for _ in range(asked.rounds):
        if asked.yardstick:
            given = yardstick_arguments(PIPELINE, photos, class_images, folder / "output", steps)
            rounds.setdefault(YARDSTICK, []).append(python("yardstick.py", asked.yardstick, *given, core=asked.core))
        for recipe in asked.recipes:
            found = python("own_step.py", photos, recipe, steps, *asked.set, core=asked.core)
            rounds.setdefault(recipe, []).append(found)
    clocks = ("cpu", "wall")
    return medians(
        {name: [{c: statistics.median(one[c]) for c in clocks} for one in found] for name, found in rounds.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--yardstick", type=Path, help="path of diffusers' train_dreambooth.py")
    parser.add_argument("--recipes", nargs="+", default=["dreambooth", "look-forward", "dino"])
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="of lookforward, values as JSON")
    parser.add_argument("--steps", type=int, default=20, help="that are timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, help="that every process is pinned to")
    parser.add_argument("--output", type=Path, help="JSON file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(asked, Path(name))
    base = YARDSTICK if asked.yardstick else asked.recipes[0]
    report("step", found, base, asked.output, steps=asked.steps, rounds=asked.rounds)


if __name__ == "__main__":
    main()
