"""Images that plain diffusers draws, in an interpreter that has no lookforward."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

_PLAIN = """
import sys

class NoLookforward:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lookforward":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoLookforward())
sys.path[:] = [folder for folder in sys.path if not folder.rstrip("/").endswith("src")]

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

torch.set_num_threads(int(sys.argv[3]))
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1], safety_checker=None)
LOADING
generator = torch.Generator().manual_seed(3)
image = pipeline(sys.argv[4], num_inference_steps=3, guidance_scale=3.0, generator=generator, output_type="np").images
np.save(sys.argv[2], (image[0] * 255).round().astype(np.uint8))
assert not any(name.partition(".")[0] == "lookforward" for name in sys.modules)
"""


def draw_elsewhere(model: Path, prompt: str, loading: Sequence[str]) -> np.ndarray:
    """The image of seed 3 in 3 steps with guidance 3: (h, w, 3) uint8.

    model: a pipeline folder. loading: lines of Python that a user writes to put an export into `pipeline`.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "image.npy"
        script = _PLAIN.replace("LOADING", "\n".join(loading))
        done = subprocess.run(
            [sys.executable, "-I", "-c", script, model, result, str(torch.get_num_threads()), prompt],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return np.load(result)
