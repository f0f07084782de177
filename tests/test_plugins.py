"""A toy adapter, reward, score and model family, a file each in another package, found by every part of lookforward."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import SETTINGS

ADAPTER = """
from dataclasses import dataclass
from pathlib import Path

from lookforward.core.specs import AdapterSpec


@dataclass(frozen=True)
class BiasAdapter:
    changes_prompts = False

    def attach(self, policy):
        for module in policy.components.values():
            module.requires_grad_(False)
        found = {name: p for name, p in policy.denoiser.named_parameters() if name.endswith("bias")}
        for parameter in found.values():
            parameter.requires_grad_(True)
        return found

    def detach(self, policy):
        policy.denoiser.requires_grad_(False)

    def export(self, policy, folder):
        from lookforward.files import write_tensors

        found = {name: p for name, p in policy.denoiser.named_parameters() if name.endswith("bias")}
        write_tensors(folder / "biases.safetensors", found, {})


def load(pipeline, folder, strength=1.0):
    from safetensors.torch import load_file

    pipeline.unet.load_state_dict(load_file(folder / "biases.safetensors"), strict=False)


BIAS = AdapterSpec(
    name="toy-bias",
    label="Toy bias",
    help="the biases of the denoiser",
    build=lambda settings, generator: BiasAdapter(),
    usage=lambda words, family: ["load_biases(pipeline)"],
    load=load,
    merge=load,
    defaults={"optimizer": {"learning_rate": 0.5}},
)
"""
REWARD = """
from lookforward.core.specs import RewardSpec
from lookforward.rewards.image import ImageReward

REDNESS = RewardSpec(
    name="toy-redness",
    label="Toy redness",
    help="the image's red",
    build=lambda name, given: ImageReward(name, lambda images, prompts: images[:, 0].mean(dim=(1, 2))),
    range="[0, 1]",
)
"""
SCORE = """
from lookforward.core.specs import ScoreSpec
from lookforward.scores.measure import MeasureScore

RED = ScoreSpec(
    name="toy-red",
    label="Toy red",
    help="How red is it?",
    build=lambda given: MeasureScore("Toy red", lambda images, prompts: images[:, 0].mean(dim=(1, 2))),
    on_request=True,
    rewards=("toy-redness",),
)
"""
FAMILY = """
from lookforward.models.families.sd import StableDiffusion


class ToyFamily(StableDiffusion):
    name = "toy-pag"
    label = "Toy model"
    pipeline_class = "StableDiffusionPAGPipeline"
    defaults = {"evaluation": {"guidance": 3.5}}


TOY = ToyFamily()
"""


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """An environment in which a distribution with the four plug-ins is installed."""
    site = tmp_path / "site"
    about = site / "toys-1.0.dist-info"
    about.mkdir(parents=True)
    for name, code in (("toy_adapter", ADAPTER), ("toy_reward", REWARD), ("toy_score", SCORE), ("toy_family", FAMILY)):
        (site / f"{name}.py").write_text(code)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[lookforward.adapters]\ntoy = toy_adapter:BIAS\n"
        "[lookforward.rewards]\ntoy = toy_reward:REDNESS\n"
        "[lookforward.scores]\ntoy = toy_score:RED\n"
        "[lookforward.families]\ntoy = toy_family:TOY\n"
    )
    paths = os.pathsep.join([str(site), *(path for path in sys.path if path)])
    return {**os.environ, "PYTHONPATH": paths, "COLUMNS": "300", "LOOKFORWARD_CACHE": str(tmp_path / "cache")}


def test_help_lists_the_plugins(package: dict[str, str]) -> None:
    shown = {}
    for command in ("train", "score"):
        call = [sys.executable, "-m", "lookforward", command, "--help"]
        shown[command] = subprocess.run(call, env=package, capture_output=True, text=True, check=True).stdout
    assert "toy-bias" in shown["train"]
    assert "toy-redness" in shown["train"]
    assert "toy-red" in shown["score"]


def test_train_benchmark_and_card_know_the_plugins(
    package: dict[str, str], tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    """In one process, since each takes seconds to start."""
    settings = {**SETTINGS, "model.name": str(tiny_model), "adapter.name": "toy-bias", "run.steps": 2}
    del settings["optimizer.learning_rate"]  # so that the adapter's own holds
    given = {"critic.name": "state-action", "critic.weight": 0.5, "objective.reward": "look-forward + toy-redness"}
    script = f"""
import json, sys
from pathlib import Path
import numpy as np
from lookforward import load_personalized, personalize
from lookforward.assembly.evaluators import Evaluators, build_scores, check_extra_scores, scores_trained_on
from lookforward.benchmark.methods import grid_methods
from lookforward.benchmark.plan import method_label
from lookforward.models.encoders import Encoders

made = personalize({str(photos)!r}, "teapot", recipe="dreambooth", output={str(tmp_path / "run")!r},
                   settings=json.loads({json.dumps(json.dumps(settings | given))}))
again = load_personalized({str(tmp_path / "run")!r})
check_extra_scores(("toy-red",), 1)
images = np.zeros((2, 8, 8, 3), np.uint8)
(score,) = [one for one in build_scores(Evaluators(Encoders({{}}), ("toy-red",)), images) if one.name == "Toy red"]
methods = grid_methods(["dreambooth"], ["toy-bias"], {{}})
print(json.dumps({{
    "rate": made.run.settings.optimizer.learning_rate,
    "files": sorted(path.name for path in made.run.export.iterdir()),
    "card": (made.run.export / "README.md").read_text(),
    "drawn": again.generate("a photo of sks teapot", steps=2)[0].size,
    "methods": list(methods), "label": method_label("dreambooth@toy-bias"),
    "marked": scores_trained_on(["toy-redness"], {{}}),
}}))
"""
    done = subprocess.run([sys.executable, "-c", script], env=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rate"] == 0.5
    assert "biases.safetensors" in found["files"]
    assert "the biases of the denoiser" in found["card"]
    assert "load_biases(pipeline)" in found["card"]
    assert found["drawn"] == [32, 32]
    assert "dreambooth@toy-bias" in found["methods"]
    assert found["label"] == "DreamBooth, Toy bias"
    assert found["marked"] == ["Toy red"]


def test_a_model_of_the_family_is_trained(
    package: dict[str, str], tiny_model: Path, photos: Path, tmp_path: Path
) -> None:
    model = tmp_path / "toy-model"
    shutil.copytree(tiny_model, model)
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPAGPipeline"}))
    settings = {**SETTINGS, "model.name": str(model), "run.steps": 1}
    settings.pop("evaluation.guidance", None)  # so that the family's own holds
    script = f"""
import json
from lookforward import personalize

made = personalize({str(photos)!r}, "teapot", recipe="dreambooth", output={str(tmp_path / "run")!r},
                   settings=json.loads({json.dumps(json.dumps(settings))}))
print(json.dumps({{
    "family": json.loads((made.run.export / "lookforward.json").read_text())["family"],
    "guidance": made.run.settings.evaluation.guidance,
    "card": (made.run.export / "README.md").read_text(),
    "class": type(made.pipeline).__name__,
}}))
"""
    done = subprocess.run([sys.executable, "-c", script], env=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["family"], found["guidance"], found["class"]) == ("toy-pag", 3.5, "StableDiffusionPAGPipeline")
    assert "guidance_scale=3.5" in found["card"]
