"""Train a few steps of one recipe, and print the time of each as JSON.

python benchmarks/own_step.py PHOTOS RECIPE STEPS [SETTING=VALUE …]
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from timing import StepClock


def own_trainer(photos: Path, recipe: str, steps: int, changes: dict[str, Any]) -> Any:
    """The trainer of a run on the CPU, with one class image beside each photo."""
    from lookforward.assembly import build
    from lookforward.config.recipe import load_settings
    from lookforward.data.subjects import read_subject

    given = {"run.steps": steps, "model.device": "cpu", "subject.class_noun": "teapot", "subject.photos": str(photos)}
    given |= {"data.class_images": 4, "data.class_image_steps": 2} | changes
    settings = load_settings(recipe, given)
    return build(settings, read_subject(photos, settings), None, given).trainer


def main() -> None:
    from lookforward.algorithm.trainer import train

    photos, recipe, steps, *more = sys.argv[1:]
    changes = {name: json.loads(value) for name, value in (one.split("=", 1) for one in more)}
    clock = StepClock()
    with redirect_stdout(sys.stderr):
        trainer = own_trainer(Path(photos), recipe, int(steps), changes)
        clock.start()
        for _ in train(trainer, int(steps)):
            pass
    print(json.dumps(clock.seconds()))


if __name__ == "__main__":
    main()
