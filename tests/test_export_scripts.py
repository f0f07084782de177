"""The lines of every card, and the script of every adapter's page, draw with plain diffusers what lookforward draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import PNDMScheduler

from conftest import make_pipeline
from documented import draw_elsewhere, page_script, replace
from exports import make_export
from lookforward.data.prompts import SAMPLE_SCENES
from lookforward.exports.card import CARD, loading_code
from lookforward.exports.load import load_export, read_manifest
from lookforward.exports.merge import merge
from lookforward.exports.source import find_adapter
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.sampling import draw_images

PAGES = {"lora": "lora", "loha": "loha-lokr-oft", "pivotal": "pivotal", "custom-diffusion": "custom-diffusion",
         "textual-inversion": "textual-inversion", "p-plus": "p-plus", "neti": "neti"}  # fmt: skip
ADAPTERS = (
    "full", "lora", "dora", "loha", "lokr", "oft", "custom-diffusion", "textual-inversion", "pivotal", "p-plus", "neti",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that does not bring the sampler that lookforward draws with, as Stable Diffusion 1.4 does not."""
    folder = tmp_path_factory.mktemp("base") / "model"
    made = make_pipeline()
    made.scheduler = PNDMScheduler.from_config(made.scheduler.config, skip_prk_steps=True)
    made.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def exports(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    given: dict[str, Any] = {"subject.class_noun": "dog", "adapter.initial_word": "dog"}
    made = {a: make_export(folder / a, base, a, size=0.02 if a == "full" else 0.3, **given) for a in ADAPTERS}
    merge([find_adapter(str(made["lora"]))], folder / "merged", "cpu")
    return made | {"merged": folder / "merged"}


def card_script(base: Path, export: Path) -> tuple[str, str]:
    """The lines of an export's card, put to work, and their prompt."""
    manifest = read_manifest(export)
    noun = " dog" if manifest["noun_in_prompt"] else ""
    prompt = f"a photo of {manifest['identifier']}{noun}{SAMPLE_SCENES[1]}"
    script = "\n".join(loading_code(manifest, prompt, 1))
    assert script in (export / CARD).read_text(encoding="utf-8")
    script = script.replace("FOLDER", str(export))
    return script if manifest["adapter"] == "full" else replace(script, {'"model"': repr(str(base))}), prompt


@pytest.fixture(scope="module")
def theirs(base: Path, exports: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What plain diffusers draws, by "card of …" and "page of …"."""
    scripts = {f"card of {name}": card_script(base, export)[0] for name, export in exports.items()}
    for adapter, page in PAGES.items():
        script = page_script(page, base, exports[adapter], steps=2, guidance=3.0, seed=4, adapter=adapter)
        scripts[f"page of {adapter}"] = script
    drawn = draw_elsewhere(list(scripts.values()), tmp_path_factory.mktemp("drawn"))
    return dict(zip(scripts, drawn, strict=True))


def draw(pipeline: Any, prompt: str, seed: int) -> np.ndarray:
    return draw_images(pipeline, [prompt], [seed], steps=2, guidance=3.0)[0].astype(int)


@pytest.mark.parametrize("name", [*ADAPTERS, "merged"])
def test_the_lines_of_a_card_draw_the_sample_that_it_shows(
    name: str, base: Path, exports: dict[str, Path], theirs: dict[str, np.ndarray]
) -> None:
    pipeline, (_, prompt) = load_export(exports[name], "cpu"), card_script(base, exports[name])
    ours = draw(pipeline, prompt, 1)
    assert np.abs(theirs[f"card of {name}"] - ours).max() <= 1  # Custom Diffusion may move a pixel by one step
    assert np.abs(ours - draw(build_pipeline(str(base), "cpu"), "a photo of dog", 1)).max() > 3
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)
    assert np.abs(ours - draw(pipeline, prompt, 1)).max() > 3  # the base model's own sampler will not do


@pytest.mark.parametrize("page", PAGES)
def test_the_script_of_a_page_draws_what_generate_draws(
    page: str, exports: dict[str, Path], theirs: dict[str, np.ndarray]
) -> None:
    subject = {"lora": "sks dog", "loha": "sks dog", "custom-diffusion": "<new1> dog", "pivotal": "<sks> dog"}
    ours = draw(load_export(exports[page], "cpu"), f"a photo of {subject.get(page, '<sks>')} on the beach", 4)
    assert np.abs(theirs[f"page of {page}"] - ours).max() <= 1
