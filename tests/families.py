"""What tests of model families share: short runs, resuming to the same bits, exports, and learning one photo."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import T5Tokenizer

from conftest import CAPTIONS
from lookforward import Personalized, personalize
from lookforward.core.types import StepResult
from tiny import seeded

PROMPT = "a photo of a red dog on the beach"
SUBJECT = "a photo of sks teapot on the beach"
SIZE = 32
SHORT: dict[str, Any] = {
    "data.resolution": SIZE,
    "data.class_images": 2,
    "data.class_image_steps": 2,
    "evaluation.sampler_steps": 3,
    "evaluation.sample_every": 0,
    "baseline.sampler_steps": 3,
    "model.device": "cpu",
    "run.batch_size": 2,
    "run.checkpoint_every": 2,
    "run.steps": 4,
}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "critic": ("look-forward", {"adapter.name": "lora", "adapter.train_text_encoder": True}),
    "full": ("state-action", {"adapter.name": "full", "objective.reward": "look-forward"}),
    "direct": ("look-forward", {"adapter.name": "lora", "critic.name": "none", "objective.reward_gradient": "direct",
                                "objective.reward": "look-forward + ssim"}),
}  # fmt: skip


def words_of_captions() -> list[str]:
    """Each word that the captions have, once."""
    return sorted({word for caption in CAPTIONS for word in caption.split()})


def make_t5_tokenizer() -> T5Tokenizer:
    """One that knows the words of the captions, and letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in words_of_captions()]
    pieces += [(chr(letter), -3.0) for letter in range(97, 123)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def settle(pipeline: Any, *parts: str) -> None:
    """As a loaded pipeline is: frozen, silent, in evaluation mode; layers that begin at zero are not left there."""
    pipeline.set_progress_bar_config(disable=True)
    for name in parts:
        module: nn.Module = getattr(pipeline, name)
        for parameter in module.parameters():  # a last layer of zeros would hide what comes before
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
        module.requires_grad_(False).eval()


def run(photos: Path, model: Path, output: Path, recipe: str, on_step: Any = None, **settings: Any) -> Personalized:
    values = SHORT | {"model.name": str(model)} | settings
    return personalize(photos, "teapot", recipe=recipe, output=output, on_step=on_step, settings=values)


def run_in_parts(photos: Path, model: Path, folder: Path, recipe: str, **settings: Any) -> np.ndarray:
    """Train in one go into folder/whole, and interrupted, and compare all bits; returns an image of the subject."""
    whole = run(photos, model, folder / "whole", recipe, **settings)

    def stop(result: StepResult) -> None:
        if result.step == 3:  # after the checkpoint of step 2
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(photos, model, folder / "parts", recipe, stop, **settings)
    parts = run(photos, model, folder / "parts", recipe, **settings)
    states = [
        load_file(folder / name / "checkpoints" / "step-000004" / "state.safetensors") for name in ("whole", "parts")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    drawn = [np.asarray(one.generate("a photo of {} on the beach", seed=1, steps=3)[0]) for one in (whole, parts)]
    assert (drawn[0] == drawn[1]).all()
    return drawn[0]


def draw_plainly(pipeline: Any, export: Path, **given: Any) -> np.ndarray:
    """The image of `run_in_parts` by plain diffusers, at the export's guidance: (h, w, 3) in [0, 255]."""
    pipeline.set_progress_bar_config(disable=True)
    guidance = json.loads((export / "lookforward.json").read_text())["guidance"]
    drawn = pipeline(prompt=SUBJECT, num_inference_steps=3, guidance_scale=guidance, height=SIZE, width=SIZE,
                     generator=seeded(1), output_type="np", **given)  # fmt: skip
    return drawn.images[0] * 255


def trained_parts(export: Path) -> set[str]:
    """The components that an exported LoRA changes."""
    return {name.partition(".")[0] for name in load_file(export / "pytorch_lora_weights.safetensors")}


def one_photo(photos: Path, folder: Path) -> Path:
    """A folder with the first of the photos alone."""
    folder.mkdir()
    shutil.copy(sorted(photos.glob("*.png"))[0], folder)
    return folder


Seen = list[tuple[dict[str, Any], Tensor]]


def watch(denoiser: nn.Module, seen: Seen) -> Any:
    """Note what a denoiser is called with, by name, and what it gives; returns the hook's handle."""
    return denoiser.register_forward_hook(lambda _, args, given, out: seen.append((given, out[0])), with_kwargs=True)


def rows_of(output: Path) -> Sequence[dict[str, float]]:
    """The logged metrics of a run."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
