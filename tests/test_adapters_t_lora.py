"""T-LoRA: ranks by timestep, the orthogonal start, every family's timesteps, resuming, and what an export draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import make_pipeline
from errors import raises
from families import run_in_parts
from lookforward.adapters.t_lora import RankedChange, Ranks, TLoraAdapter, load_t_lora, orthogonal, ranks_at
from lookforward.algorithm.trainer import train
from lookforward.algorithm.updates import act_with_prompts
from lookforward.config.recipe import load_settings
from lookforward.core.types import State
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from tiny import pipeline_trainer, seeded
from tiny_families import TINY
from tiny_sd3 import make_sd3

PROMPT = "a photo of a red dog"


def adapter_of(seed: int = 0, rank: int = 6, least: int = 2) -> TLoraAdapter:
    return TLoraAdapter(rank, least, 1.0, "", seeded(seed))


def drawn(pipeline: Any) -> np.ndarray:
    return draw_images(pipeline, [PROMPT] * 2, [0, 1], steps=3, guidance=3.0, resolution=32).astype(np.int64)


def test_the_rank_falls_with_the_noise() -> None:
    share = torch.tensor([0.0, 0.25, 0.5, 0.999, 1.0])
    assert ranks_at(share, 64, 32, 1.0).tolist() == [64, 56, 48, 32, 32]
    assert ranks_at(share, 8, 1, 2.0).tolist() == [8, 4, 2, 1, 1]  # ⌊(1 - s)² 7⌋ + 1
    assert ranks_at(share, 5, 5, 1.0).tolist() == [5] * 5


def test_the_change_of_a_layer_is_that_of_the_paper() -> None:
    ranks = Ranks(4, 1, 1.0, lambda t: t / 1000)
    random = np.random.default_rng(0)
    start = orthogonal(random, 6, 5, 4)
    learned = {name: value + 0.1 * torch.randn(value.shape, generator=seeded()) for name, value in start.items()}
    layer, x = nn.Linear(6, 5), torch.randn(2, 3, 6, generator=seeded(1))
    plain = layer(x)
    layer.register_forward_hook(RankedChange(ranks, learned, start, 0.5).add)
    ranks.see(layer, (x, torch.tensor([0, 600])), {})
    found = layer(x) - plain
    for row, count in enumerate((4, 2)):  # ⌊0.4 · 3⌋ + 1
        changes = [
            one["p"][:, :count] @ torch.diag(one["scale"][:count]) @ one["q"][:count] for one in (learned, start)
        ]
        torch.testing.assert_close(found[row], 0.5 * x[row] @ (changes[0] - changes[1]).T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(12, 12), (12, 20), (20, 12)])
def test_it_begins_with_the_last_singular_vectors_of_a_random_matrix(inputs: int, outputs: int) -> None:
    random = np.random.default_rng(0)
    starts = [orthogonal(random, inputs, outputs, 3) for _ in range(600)]
    for one in starts[:3]:
        torch.testing.assert_close(one["q"] @ one["q"].T, torch.eye(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(one["p"].T @ one["p"], torch.eye(3), atol=1e-5, rtol=0)
        assert (one["scale"].diff() <= 0).all()
    matrices = torch.randn(600, inputs, outputs, generator=seeded()) / 3
    wanted = torch.linalg.svdvals(matrices)[:, -3:]
    found = torch.stack([one["scale"] for one in starts])
    torch.testing.assert_close(found.mean(dim=0), wanted.mean(dim=0), atol=0.02, rtol=0.08)
    torch.testing.assert_close(found.std(dim=0), wanted.std(dim=0), atol=0.02, rtol=0.2)
    assert len(orthogonal(random, 2, 9, 8)["scale"]) == 2  # a layer has no more directions than its shorter side


def test_it_begins_as_the_model_and_leaves_it_as_it_was() -> None:
    pipeline = make_pipeline()
    policy, image, before = DiffusionPolicy(pipeline), drawn(pipeline), set(pipeline.unet.state_dict())
    rng = torch.get_rng_state()
    adapter = adapter_of()
    first = adapter.attach(policy)
    assert torch.equal(torch.get_rng_state(), rng)
    assert set(pipeline.unet.state_dict()) == before
    assert (drawn(pipeline) == image).all()
    with torch.no_grad():
        for parameter in first.values():
            parameter += 0.3
    assert (drawn(pipeline) != image).any()
    adapter.detach(policy)
    assert (drawn(pipeline) == image).all()
    again = adapter_of().attach(policy)
    other = adapter_of(1).attach(policy)
    assert all(torch.equal(again[n], p - 0.3) or torch.allclose(again[n], p - 0.3, atol=1e-6) for n, p in first.items())
    assert any(not torch.equal(again[n], p) for n, p in other.items())


@pytest.mark.parametrize("family", TINY)
def test_each_family_says_how_noisy_its_timesteps_are(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = TINY[family]()
    policy, seen, rows = DiffusionPolicy(pipeline, resolution=32), list[Tensor](), list[int]()
    own = Ranks.see

    def noted(self: Ranks, *args: Any) -> None:
        share = self.share
        self.share = lambda timestep: seen.append(share(timestep)) or seen[-1]
        own(self, *args)
        self.share = share
        rows.append(int(self.mask.sum(dim=1)[0]))

    monkeypatch.setattr(Ranks, "see", noted)
    adapter_of(rank=4, least=1).attach(policy)
    draw_images(pipeline, [PROMPT], [0], steps=3, guidance=1.0, resolution=32)
    sampled = [float(one[0]) for one in seen]
    assert sampled == sorted(sampled, reverse=True)
    assert sampled[0] > 0.6
    assert 0 < sampled[-1] < sampled[0] - 0.15
    assert rows == sorted(rows)
    seen.clear()
    latents = torch.randn(2, *policy.family.encode_images(pipeline.vae, torch.rand(1, 3, 32, 32)).mean.shape[1:])
    timestep = torch.tensor([100, 900])
    output = policy.act(State(latents, timestep, policy.encode_prompts([PROMPT] * 2)))
    level = policy.path.of(latents).at(timestep)[1]
    wanted = timestep / 1000 if policy.path.signal[-1] > 0 else level
    torch.testing.assert_close(seen[-1].float().cpu(), wanted.float())
    assert output.isfinite().all()


@pytest.mark.parametrize("make", [make_pipeline, make_sd3])
def test_checkpointing_computes_a_block_again_with_its_own_ranks(make: Any) -> None:
    found = []
    for checkpointing in (False, True):
        pipeline = make()
        denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
        if checkpointing:
            denoiser.enable_gradient_checkpointing()
            denoiser.train()
        policy = DiffusionPolicy(pipeline, resolution=32)
        parameters = adapter_of().attach(policy)
        with torch.no_grad():
            for i, parameter in enumerate(parameters.values()):
                parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(i))
        channels = denoiser.config["in_channels"]
        x_t = torch.randn(2, channels, 8, 8, generator=seeded())
        words = policy.encode_prompts([PROMPT] * 2)
        loss = policy.act(State(x_t, torch.tensor([50, 950]), words)).square().mean()
        with torch.no_grad():  # as the untouched model acts between a loss and its gradient
            policy.act(State(x_t[:1], torch.tensor([500]), words.rows(slice(0, 1))))
        found.append(torch.autograd.grad(loss, list(parameters.values())))
    assert any(one.abs().max() > 1e-6 for one in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-6)


def test_a_resumed_run_is_the_uninterrupted_one_and_learns(tmp_path: Path) -> None:
    def fresh(seed: int = 0) -> Any:
        return pipeline_trainer(DiffusionPolicy(make_pipeline()), adapter_of(), "a photo of sks dog", seed=seed)

    def loss() -> float:
        with torch.no_grad():
            batch = straight.references.draw(32, straight.policy.path, seeded(5))
            return straight.error(act_with_prompts(straight, batch)[0]).item()

    straight, first, second = fresh(), fresh(), fresh(9)
    before = loss()
    terms = [result.terms for result in train(straight, 16)]
    list(train(first, 8))
    save_checkpoint(first, tmp_path)
    assert load_newest(second, tmp_path)
    assert [result.terms for result in train(second, 16)] == terms[8:]
    assert all(torch.equal(p, straight.parameters[n]) for n, p in second.parameters.items())
    assert loss() < 0.98 * before


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_the_recipe_trains_resumes_and_exports(family: str, photos: Path, tmp_path: Path) -> None:
    TINY[family]().save_pretrained(tmp_path / "model")
    settings = {"adapter.rank": 4, "optimizer.learning_rate": 0.01}
    image = run_in_parts(photos, tmp_path / "model", tmp_path, "t-lora", **settings)
    assert image.std() > 0
    pipeline = TINY[family]()
    before = drawn(pipeline)
    load_t_lora(pipeline, tmp_path / "whole" / "export", 0.0)
    assert (drawn(pipeline) == before).all()
    load_t_lora(pipeline, tmp_path / "whole" / "export")
    assert (drawn(pipeline) != before).any()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with raises("setting-range", "adapter.min_rank = 9", "adapter.rank = 8"):
        TLoraAdapter(8, 9, 1.0, "", seeded())
    with raises("export-unreadable", "t_lora.safetensors"):
        load_t_lora(make_pipeline(), tmp_path)
    policy = DiffusionPolicy(make_sd3(), resolution=32)
    adapter = adapter_of()
    adapter.attach(policy)
    adapter.export(policy, tmp_path)
    with raises("export-misfit", "transformer_blocks"):
        load_t_lora(make_pipeline(), tmp_path)
    assert load_settings("t-lora", {"subject.class_noun": "dog"}).adapter.name == "t-lora"
