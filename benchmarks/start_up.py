"""How long commands take before they do anything: `--help`, and `train --dry-run` on Toybox.

    python benchmarks/start_up.py --core 1 --output start.json

The row of imports is what a dry run cannot do without: PyTorch, and the classes of diffusers and transformers that the
model consists of.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from step import make_photos
from timing import add_options, command_time, medians, place_of, report

IMPORTS = "from transformers import CLIPTextModel; from diffusers import AutoencoderKL, UNet2DConditionModel"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    add_options(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos, _ = make_photos(Path(folder))
        own = [sys.executable, "-m", "lookforward"]
        commands = {
            "imports of the libraries": [sys.executable, "-c", IMPORTS],
            "lookforward --help": [*own, "--help"],
            "lookforward train --help": [*own, "train", "--help"],
            "lookforward train --dry-run": [*own, "train", photos, "--class-noun", "teapot", "--dry-run"],
        }
        place = place_of(asked)
        rounds = {
            name: [command_time(command, place) for _ in range(asked.rounds)] for name, command in commands.items()
        }
    report("start", medians(rounds), "imports of the libraries", asked.output, rounds=asked.rounds)


if __name__ == "__main__":
    main()
