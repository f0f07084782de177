"""The time of a training step beside diffusers' own script for the model.

    python benchmarks/step.py --yardstick diffusers/examples/dreambooth/train_dreambooth.py --core 1 --output step.json
    python benchmarks/step.py --model FOLDER --yardstick diffusers/examples/dreambooth/train_dreambooth_sd3.py --core 1

Both train on one photo and one class image a step, in single precision, one thread a process, on the bundled model or
the pipeline of a folder; `sides.py` says what is trained. They run in turn, several rounds; the table has medians.
Without --yardstick the table has lookforward's recipes alone.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from sides import find_side, script_arguments
from timing import WARM, add_options, medians, place_of, python, report


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
    photos, class_images = make_photos(folder)
    side, place = find_side(asked.model, folder), place_of(asked)
    steps, rounds = asked.steps + WARM + 1, {}
    for _ in range(asked.rounds):
        if asked.yardstick:
            given = script_arguments(side, photos, class_images, folder / "output", steps)
            rounds.setdefault(side.script, []).append(python("yardstick.py", asked.yardstick, *given, place=place))
        for name, (recipe, given) in side.own(asked.recipes).items():
            settings = [f"{key}={json.dumps(value)}" for key, value in given.items()]
            found = python("own_step.py", photos, recipe, steps, *settings, *asked.set, place=place)
            rounds.setdefault(name, []).append(found)
    clocks = ("cpu", "wall")
    return medians(
        {name: [{c: statistics.median(one[c]) for c in clocks} for one in found] for name, found in rounds.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--yardstick", type=Path, help="path of diffusers' script for this kind of model")
    parser.add_argument(
        "--model", default="toybox-sd", help="a bundled model, or a pipeline folder of SD1's or SD3's kind"
    )
    parser.add_argument("--recipes", nargs="+", default=["dreambooth", "look-forward", "dino"])
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="of lookforward, values as JSON")
    parser.add_argument("--steps", type=int, default=20, help="that are timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    add_options(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(asked, Path(name))
    base = next(iter(found))
    report("step", found, base, asked.output, steps=asked.steps, rounds=asked.rounds, threads=asked.threads)


if __name__ == "__main__":
    main()
