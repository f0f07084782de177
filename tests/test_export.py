"""The export is a pipeline folder of plain diffusers, and draws what the run draws, to the bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from documented import ROOT, draw_elsewhere, replace
from errors import raises
from jobs import SETTINGS, exported
from lookforward import Personalized, personalize
from lookforward.exports.write import export

PROMPT = "a photo of sks teapot on the beach"


@pytest.fixture(scope="module")
def teapot(tiny_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Personalized:
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKFORWARD_CACHE", str(folder / "cache"))
        return personalize(
            photos, "teapot", output=folder / "run", settings={"model.name": str(tiny_model), **SETTINGS}
        )


def test_plain_diffusers_draws_the_same_image_to_the_bit(teapot: Personalized, tmp_path: Path) -> None:
    ours = teapot.generate(PROMPT, seed=3, steps=4, guidance=3.0)[0]
    page = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    script = replace(page.partition("\n## 8. ")[2].partition("```python\n")[2].partition("```")[0], {
        '"runs/teapot-0-look-forward/export"': repr(str(teapot.run.export)),
        "num_inference_steps=25": "num_inference_steps=4",
        "guidance_scale=4.0": "guidance_scale=3.0",
        "manual_seed(0)": "manual_seed(3)",
    })  # fmt: skip
    (plain,) = draw_elsewhere([script], tmp_path)
    assert (plain == np.asarray(ours)).all()
    assert np.asarray(ours).std() > 1  # not one colour, which any two models would agree on


def test_nothing_but_safetensors_json_text_and_a_picture(teapot: Personalized) -> None:
    files = exported(teapot.run.folder)
    assert {Path(name).suffix for name in files} <= {"", ".safetensors", ".json", ".txt", ".md", ".png"}
    assert {Path(name).parts[0] for name in files} == {
        "README.md", "SHA256SUMS", "lookforward.json", "model_index.json", "samples.png",
        "scheduler", "text_encoder", "tokenizer", "unet", "vae",
    }  # fmt: skip
    index = json.loads(files["model_index.json"])
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]  # the policy that was trained


def test_the_export_does_not_tell_where_its_model_was_loaded_from(teapot: Personalized) -> None:
    configs = list(teapot.run.export.rglob("*.json"))
    assert len(configs) > 5
    assert not [path for path in configs if "_name_or_path" in path.read_text(encoding="utf-8")]


def test_exported_weights_are_those_of_the_last_checkpoint(teapot: Personalized) -> None:
    state = teapot.run.checkpoints / "step-000006" / "state.safetensors"
    with (
        safe_open(state, "pt") as saved,
        safe_open(teapot.run.export / "unet" / "diffusion_pytorch_model.safetensors", "pt") as plain,
    ):
        for name in plain.keys():  # noqa: SIM118
            assert torch.equal(saved.get_tensor(f"policy/unet.{name}"), plain.get_tensor(name)), name


class _Breaks:
    """Writes half of it, then fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def attach(self, policy: object) -> dict[str, torch.nn.Parameter]:
        return {}

    def export(self, policy: object, folder: Path) -> None:
        (folder / "model_index.json").write_text("{")
        raise self.error


def breaking(error: Exception) -> Any:
    return _Breaks(error)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), Exception("No space left on device (os error 28)")]
)
def test_an_export_appears_whole_or_not_at_all(tmp_path: Path, error: Exception) -> None:
    with raises("disk-full", tmp_path / "export"):
        export(breaking(error), None, tmp_path / "export", {})
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_outlives_a_failure(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model_index.json").write_text("{}")
    with raises("not-writable", tmp_path / "export", "no ink"):
        export(breaking(OSError("no ink")), None, tmp_path / "export", {})
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert (tmp_path / "export" / "model_index.json").read_text() == "{}"
