"""Scripts of the documentation and of model cards, run by plain diffusers in an interpreter that has no lookforward."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "adapters"

_PLAIN = """
import sys

class NoLookforward:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lookforward":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoLookforward())
sys.path[:] = [folder for folder in sys.path if not folder.rstrip("/").endswith("src")]

import torch

threads, *scripts = sys.argv[1:]
torch.set_num_threads(int(threads))
for script in scripts:
    exec(script, {})
assert not any(name.partition(".")[0] == "lookforward" for name in sys.modules)
"""


def page_script(
    page: str, base: Path, export: Path, *, steps: int, guidance: float, seed: int, adapter: str = ""
) -> str:
    """The script of docs/adapters/`page`.md on another model and export, with other numbers, and all else as it is."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return replace(text.partition("```python\n")[2].partition("```")[0], {
        '"CompVis/stable-diffusion-v1-4"': repr(str(base)),
        f'"runs/dog-look-forward-{adapter or page}/export"': repr(str(export)),  # as `train` calls it
        "num_inference_steps=50, guidance_scale=7.5": f"num_inference_steps={steps}, guidance_scale={guidance}",
        "manual_seed(0)": f"manual_seed({seed})",
    })  # fmt: skip


def replace(script: str, words: dict[str, str]) -> str:
    """Put other words in, each of which must be there once."""
    for old, new in words.items():
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    return script


def draw_elsewhere(scripts: Sequence[str], scratch: Path) -> list[np.ndarray]:
    """The image that each script saves as a PNG file, (h, w, 3) int64; all are run in one process."""
    files = [scratch / f"drawn-{i}.png" for i in range(len(scripts))]
    placed = []
    for script, file in zip(scripts, files, strict=True):
        (name,) = re.findall(r'\.save\("([^"]+\.png)"\)', script)
        placed.append(replace(script, {f'"{name}"': repr(str(file))}))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PLAIN, str(torch.get_num_threads()), *placed],
        env=environment, cwd=scratch, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    images = []
    for file in files:
        with Image.open(file) as image:
            images.append(np.asarray(image).astype(int))
    return images
