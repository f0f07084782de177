"""What a step costs by count, and that its fast path agrees with the plain one."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from torch.optim import AdamW

from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly import build
from lookforward.config.recipe import load_settings
from lookforward.data.subjects import read_subject

ROOT = Path(__file__).parents[1]
# Of each recipe: calls of the denoiser; operations, as a ratio to dreambooth's; reads; operations of the optimizers
COSTS = {
    "dreambooth": (1, 1.0, 5, 2),
    "look-forward": (1, 1.0001, 8, 8),
    "dino": (1, 1.3227, 10, 8),
    "look-forward+dino": (1, 1.3227, 11, 8),
    "text": (1, 1.3227, 11, 8),  # the prompt is encoded once
    "released": (1, 1.0001, 8, 8),
    "state-action": (4, 2.8087, 127, 866),
    "best": (1, 1.6453, 7, 2),
    "dreambooth-output": (2, 1.1595, 4, 2),
    "dco": (2, 0.6595, 4, 2),
    "rpo": (3, 1.2679, 5, 2),
    "t-lora": (1, 0.3155, 4, 2),
}


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("cost")


@pytest.fixture(scope="module")
def operations() -> dict[str, int]:
    """Of dreambooth, once it was counted."""
    return {}


@pytest.mark.parametrize("recipe", COSTS)
def test_counts_of_a_step(recipe: str, cost: Any, photos: Path, operations: dict[str, int]) -> None:
    if not operations:
        operations["dreambooth"] = cost.recipe_cost("dreambooth", photos)["flops"]
    found = cost.recipe_cost(recipe, photos)
    calls, ratio, reads, launches = COSTS[recipe]
    assert found["denoiser calls"] == calls
    assert found["flops"] / operations["dreambooth"] == pytest.approx(ratio, abs=2e-4)
    assert (found["reads"], found["optimizer launches"]) == (reads, launches)


def test_the_plain_loop_launches_operations_for_each_weight(cost: Any, photos: Path) -> None:
    found = cost.recipe_cost("look-forward", photos, **{"run.plain": True})
    assert found["optimizer launches"] > 100 * COSTS["look-forward"][3]


def test_every_bundled_recipe_has_its_cost() -> None:
    bundled = {path.stem for path in (ROOT / "src/lookforward/config/recipes").glob("*.toml")}
    assert bundled - set(COSTS) == {"dpok", "draft", "diffusion-nft", "flow-grpo"}  # which draw images in a step


def trainer_of(model: Path, photos: Path, **changes: Any) -> Trainer:
    given: dict[str, Any] = {
        "run.steps": 50,
        "run.seed": 0,
        "model.name": str(model),
        "model.device": "cpu",
        "data.resolution": 32,
        "data.class_images": 2,
        "data.class_image_steps": 2,
        "optimizer.learning_rate": 1.8e-4,
        "optimizer.max_grad_norm": 0.5,
        "subject.class_noun": "teapot",
        "subject.photos": str(photos),
    }
    settings = load_settings("look-forward", given | changes)
    return build(settings, read_subject(photos, settings)).trainer


def test_fast_and_plain_path_agree_over_50_steps(tiny_model: Path, photos: Path) -> None:
    plain, fast = (trainer_of(tiny_model, photos, **{"run.plain": value}) for value in (True, False))
    assert isinstance(plain.optimizer, AdamW)
    assert not plain.optimizer.defaults["fused"]
    assert fast.optimizer.defaults["fused"]
    clipped = 0
    for a, b in zip(train(plain, 50), train(fast, 50), strict=True):
        for name in ("loss", "noise_loss", "prior_loss"):
            assert b.terms[name] == pytest.approx(a.terms[name], rel=1e-5), (a.step, name)
        assert b.terms["gradient"] == pytest.approx(a.terms["gradient"], rel=1e-4)
        clipped += a.terms["gradient"] > 0.5
    assert clipped > 0  # so that the folded scale was there to disagree
