"""docs/guides: the code of each guide is a plug-in that works."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lookforward.core.protocols import Family
from lookforward.core.specs import Resources
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from tiny import random_transition, seeded
from tiny_rewards import assert_gradient, flat, pictures, with_images

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


def module_of(guide: str, file: str) -> dict[str, Any]:
    """The names that the block of a guide defines which begins with the comment `# file`."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    (code,) = [
        code for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if f"# {file}\n" in code
    ]
    module = ModuleType(Path(file).stem)
    exec(compile(code, f"docs/guides/{guide}.md", "exec"), vars(module))
    return vars(module)


def test_the_reward_on_photos() -> None:
    spec = module_of("reward", "src/lookforward/rewards/pixel.py")["PIXEL"]
    reward = spec.build("pixel", Resources(None, torch.zeros(0)))
    photo = flat((0, 0, 0), (0.5, 0.5, 0.5))
    values = reward(with_images(flat((1, 1, 1), (0.5, 0.5, 0.5)), photo))
    torch.testing.assert_close(values, torch.tensor([-1.0, 0.0]))
    assert (reward.name, reward.needs_image) == (spec.name, spec.needs_image)
    assert_gradient(reward, with_images(pictures(), pictures(seed=5).double()))


def test_the_reward_on_latents() -> None:
    spec = module_of("reward", "src/lookforward/rewards/absolute.py")["ABSOLUTE"]
    reward = spec.build("absolute", Resources(None, torch.zeros(0)))
    transition = random_transition(seeded(), 3, size=4)
    values = reward(transition)
    torch.testing.assert_close(values, -(transition.x_0_hat - transition.x_0).abs().flatten(1).mean(1))
    assert (reward.name, reward.needs_image) == (spec.name, spec.needs_image)


def test_the_score() -> None:
    spec = module_of("score", "src/lookforward/scores/photo_colour.py")["PHOTO_COLOUR"]
    score = spec.build(Resources(None, flat((1.0, 0.0, 0.0), (0.0, 0.0, 0.0))))
    values = score(flat((0.5, 0, 0), (0.5, 0.3, 0.6)), ["", ""])
    torch.testing.assert_close(values, torch.tensor([1.0, 0.7]))
    assert score.name == spec.label


def test_the_family_guide_names_every_member() -> None:
    text = (GUIDES / "family.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = [name for cell in rows for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(
        {*Family.__annotations__, *(name for name in vars(Family) if not name.startswith("_"))}
    )


def test_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    names = module_of("adapter", "src/lookforward/adapters/bias.py")
    spec = names["BIAS"]
    policy = DiffusionPolicy(build_pipeline(str(tiny_model), "cpu"))
    before = {name: p.detach().clone() for name, p in policy.denoiser.named_parameters()}
    adapter = spec.build(None, seeded())
    trained = adapter.attach(policy)
    assert {name for name, p in policy.denoiser.named_parameters() if p.requires_grad} == set(trained)
    with torch.no_grad():
        for bias in trained.values():
            bias.add_(1)
    adapter.export(policy, tmp_path)
    other = build_pipeline(str(tiny_model), "cpu")
    for strength in (0.0, 1.0):
        spec.load(other, tmp_path, strength)
        for name, p in DiffusionPolicy(other).denoiser.named_parameters():
            torch.testing.assert_close(p.detach(), before[name] + (strength if name in trained else 0))
    adapter.detach(policy)
    assert not any(p.requires_grad for p in policy.denoiser.parameters())
