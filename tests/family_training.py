"""What every flow family is asked to do with a tiny pipeline: train, resume, export, merge, and learn a photo."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lookforward import Personalized, personalize
from lookforward.algorithm.environment import act
from lookforward.core.path import add_noise
from lookforward.core.types import State, StepResult
from lookforward.exports.load import load_export
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.latents import encode
from lookforward.models.loading import load_pipeline
from lookforward.models.pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from tiny import seeded

SUBJECT = "a photo of sks teapot on the beach"
SHORT: dict[str, Any] = {
    "data.resolution": 32,
    "data.class_images": 2,
    "data.class_image_steps": 2,
    "evaluation.sampler_steps": 3,
    "evaluation.sample_every": 0,
    "baseline.sampler_steps": 3,
    "model.device": "cpu",
    "run.batch_size": 2,
    "run.checkpoint_every": 2,
}
# The residual critic, the state-action critic, and a reward's own gradient, as recipe best has it
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "critic": ("look-forward", {"adapter.name": "lora"}),
    "dora": ("dreambooth", {"adapter.name": "dora"}),
    "full": ("state-action", {"adapter.name": "full", "objective.reward": "look-forward"}),
    "direct": ("look-forward", {"adapter.name": "lora", "critic.name": "none", "objective.reward_gradient": "direct",
                                "objective.reward": "look-forward + ssim"}),
}  # fmt: skip


def run(photos: Path, model: Path, output: Path, recipe: str, on_step: Any = None, **settings: Any) -> Personalized:
    fast = {"optimizer.learning_rate": 1e-2 if settings["adapter.name"] != "full" else 1e-3}  # so that it shows
    values = SHORT | {"model.name": str(model), "run.steps": 4} | fast | settings
    return personalize(photos, "teapot", recipe=recipe, output=output, on_step=on_step, settings=values)


def trains_and_resumes(
    recipe: str, settings: dict[str, Any], photos: Path, model: Path, folder: Path
) -> np.ndarray[Any, Any]:
    """Train in one piece, in `folder`/whole, and in two; both are one to the last bit. Returns what the run draws."""
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


def plain_diffusers_draws_the_same(
    drawn: np.ndarray[Any, Any], adapter: str, kind: Any, call: dict[str, Any], model: Path, export: Path
) -> None:
    """kind: the pipeline's class. call: its own arguments for the default guidance of the family."""
    base = kind.from_pretrained(model)
    theirs = kind.from_pretrained(export if adapter == "full" else model)
    if adapter != "full":
        theirs.load_lora_weights(str(export))
    images = []
    for pipeline in (base, theirs):
        pipeline.set_progress_bar_config(disable=True)
        given = {"num_inference_steps": 3, "height": 32, "width": 32, "generator": seeded(1), "output_type": "np"}
        images.append(pipeline(SUBJECT, **given, **call).images[0] * 255)
    assert np.abs(images[1] - drawn).max() < 1.01
    assert np.abs(images[0] - drawn).max() > 1.01


def merges(adapter: str, photos: Path, model: Path, folder: Path) -> None:
    """Three steps, fast enough that they change the image; merged equals the adapter beside the weights."""
    settings = {"adapter.name": adapter, "optimizer.learning_rate": 0.05, "run.steps": 3}
    run(photos, model, folder / "run", "look-forward", **settings)
    export = folder / "run" / "export"
    assert {name.partition(".")[0] for name in load_file(export / "pytorch_lora_weights.safetensors")} == {
        "transformer"
    }
    merge([find_adapter(str(export))], folder / "merged", "cpu")
    merged = build_pipeline(str(folder / "merged"), "cpu")
    assert not merged.get_list_adapters()
    images = [
        draw_images(one, [SUBJECT], [1], steps=3, guidance=4.0, resolution=32).astype(int)[0]
        for one in (build_pipeline(str(model), "cpu"), load_export(export, "cpu"), merged)
    ]
    assert np.abs(images[0] - images[1]).max() > 5
    assert np.abs(images[1] - images[2]).max() <= 1


def loss_of_one_photo(photos: Path, model: Path, folder: Path, **settings: Any) -> tuple[float, float]:
    """The loss of Eq. 1 on one photo, at fixed noise and timesteps, before and after 60 steps on it."""
    (folder / "photo").mkdir()
    photo = sorted(photos.glob("*.png"))[0]
    shutil.copy(photo, folder / "photo")
    chosen: dict[str, Any] = {"adapter.name": "full", "optimizer.learning_rate": 3e-3, "run.steps": 60,
                              "run.batch_size": 4, "data.allow_few": True}  # fmt: skip
    run(folder / "photo", model, folder / "run", "dreambooth", **chosen | settings)
    pixels = np.asarray(Image.open(photo).convert("RGB").resize((32, 32))) / 255
    generator, losses = seeded(), []
    latents = encode(load_pipeline(model), torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None])
    x_0 = latents.sample(torch.zeros(32).long(), generator)
    noise, timestep = torch.randn(x_0.shape, generator=generator), torch.arange(32) * 30 + 50
    for pipeline in (load_pipeline(model), load_export(folder / "run" / "export", "cpu")):
        policy = DiffusionPolicy(pipeline, resolution=32)
        with torch.no_grad():
            words = policy.encode_prompts(["a photo of sks teapot"] * 32)
            state = State(add_noise(x_0, noise, *policy.path.at(timestep)), timestep, words)
            transition = act(policy, state, x_0, noise)
        losses.append(float(((transition.action - transition.target) ** 2).mean()))
    return losses[0], losses[1]
