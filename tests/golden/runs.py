"""Golden runs: every recipe on all weights, and every adapter under Look Forward, for 20 steps on Toybox.

    OMP_NUM_THREADS=1 python tests/golden/runs.py    # records golden.json beside this file

A change that is not meant to change results leaves them as they are. On the processor and the torch that they were
recorded with, they are equal to the last bit; elsewhere the logged terms agree to about a thousandth, as the order of
sums differs and twenty steps amplify that.
"""

import hashlib
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

RECORD = Path(__file__).parent / "golden.json"
RECIPES = (
    "best", "dino", "dpok", "draft", "dreambooth", "look-forward", "look-forward+dino", "released",
    "state-action", "text",
)  # fmt: skip
ADAPTERS = ("lora", "dora", "custom-diffusion", "textual-inversion", "p-plus", "neti")
CASES = (*((recipe, "full") for recipe in RECIPES), *(("look-forward", adapter) for adapter in ADAPTERS))
SHORT: dict[str, Any] = {
    "model.name": "toybox-sd",
    "run.steps": 20,
    "run.plain": True,  # as they were recorded; tests/test_fast_path.py holds the fast path to it
    "run.seed": 0,
    "model.device": "cpu",
    "data.class_images": 4,
    "data.class_image_steps": 4,
    "evaluation.sample_every": 0,
    "run.checkpoint_every": 20,
}
DPOK: dict[str, Any] = {
    "baseline.dpok_trajectories": 4,
    "baseline.dpok_pairs": 8,
    "baseline.dpok_micro_batch": 8,
    "baseline.sampler_steps": 5,
}


def machine() -> dict[str, str]:
    """What the last bit depends on."""
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = " ".join(next((line.split(":")[1] for line in lines if line.startswith(key)), "")
                         for key in ("model name", "model\t", "cpu family"))  # fmt: skip
    return {"torch": torch.__version__, "processor": model.strip(), "system": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability()}  # fmt: skip


def run_case(recipe: str, adapter: str, photos: Path, folder: Path) -> dict[str, Any]:
    """Train one case; returns its logged terms step by step, and digests of trained weights and of one image."""
    from lookforward import personalize

    settings = SHORT | {"adapter.name": adapter} | (DPOK if recipe == "dpok" else {})
    result = personalize(photos, "teapot", recipe=recipe, output=folder, settings=settings)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    terms = [{k: v for k, v in row.items() if k not in ("seconds", "step", "crc32")} for row in rows]
    state = load_file(folder / "checkpoints" / "step-000020" / "state.safetensors")
    weights = sorted(
        hashlib.sha256(repr(tuple(value.shape)).encode() + value.numpy().tobytes()).hexdigest()
        for name, value in state.items()
        if name.startswith("policy/")
    )
    image = np.asarray(result.generate("a photo of {} on the beach", seed=0, steps=6)[0])
    return {
        "terms": terms,
        "weights": hashlib.sha256("".join(weights).encode()).hexdigest()[:16],
        "image": hashlib.sha256(image.tobytes()).hexdigest()[:16],
    }


def main() -> None:
    from lookforward_toybox.subjects import write_photos

    torch.set_num_threads(1)
    record: dict[str, Any] = {"machine": machine(), "cases": {}}
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "teapot-0"
        write_photos("teapot-0", photos)
        for recipe, adapter in CASES:
            case = run_case(recipe, adapter, photos, Path(name) / f"{recipe}-{adapter}")
            record["cases"][f"{recipe}/{adapter}"] = case
            print(recipe, adapter, case["weights"], case["image"], flush=True)
    rounded = json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.7g}"))
    RECORD.write_text(json.dumps(rounded, separators=(",", ":")).replace('"terms":', '\n"terms":') + "\n")


if __name__ == "__main__":
    sys.exit(main())
