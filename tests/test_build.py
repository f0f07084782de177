"""From the words of a config to objects: every reward by its name, and what is wrong with one found early."""

import re
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from conftest import make_pipeline
from errors import raises
from lookforward.algorithm.trainer import Trainer, train
from lookforward.assembly import build, check
from lookforward.assembly.environment import build_environment
from lookforward.config.recipe import load_settings, recipe_names
from lookforward.config.settings import Settings
from lookforward.data.subject import Subject, load_subject
from lookforward.models.encoders import load_clip
from lookforward.models.load_pipeline import build_pipeline
from lookforward.rewards import REWARDS
from lookforward.runs.checkpoint import load_newest, save_checkpoint
from lookforward_toybox import IDENTITY, JUDGE
from tiny_sd3 import make_sd3

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def subject(photos: Path) -> Subject:
    return load_subject(photos, class_noun="teapot", resolution=64)


def settings(recipe: str = "look-forward", /, **overrides: Any) -> Settings:
    return load_settings(
        recipe,
        {
            "model.name": "toybox-sd",
            "subject.class_noun": "teapot",
            "data.class_images": 1,
            "data.class_image_steps": 1,
            **overrides,
        },
    )


@lru_cache
def pipeline() -> StableDiffusionPipeline:
    """Loaded once; every test trains on it in place."""
    return build_pipeline("toybox-sd", "cpu")


def trainer_of(subject: Subject, recipe: str = "look-forward", /, **overrides: Any) -> Trainer:
    return build(settings(recipe, **overrides), subject, pipeline()).trainer


def test_the_documented_names_are_the_known_ones() -> None:
    table = (DOCS / "rewards.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)
    assert set(documented) == {spec.name for spec in REWARDS if not spec.takes_argument}


@pytest.mark.parametrize("reward", ["look-forward", "noise", "dino", "clip-image", "clip-text", "ssim"])
def test_rewards_by_name_are_paid_for_every_sample(subject: Subject, reward: str) -> None:
    trainer = trainer_of(subject, **{"objective.reward": reward, "run.batch_size": 2, "critic.weight": 0.1})
    (result,) = train(trainer, 1)
    assert trainer.environment.rewards.name == reward
    assert trainer.environment.rewards.needs_image == (reward not in ("look-forward", "noise"))
    assert result.terms["reward"] == pytest.approx(result.terms["q_target"])


@pytest.mark.parametrize("adapter", ["textual-inversion", "custom-diffusion", "p-plus", "neti"])
def test_a_word_that_cannot_be_taught_is_found_before_anything_is_drawn(
    adapter: str, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path))
    config = settings(
        "dreambooth", **{"adapter.name": adapter, "subject.identifier": "teapot", "objective.prior_weight": 1.0}
    )
    for look in (lambda: check(config, subject), lambda: build(config, subject, build_pipeline("toybox", "cpu"))):
        with raises("identifier-known", "'teapot'", "<teapot>"):
            look()
    assert not list(tmp_path.iterdir())


def test_a_function_and_the_residual_critic_get_a_note(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noted_of_test_build.py").write_text("def f(images, prompts):\n    return [0.0] * len(images)\n")
    monkeypatch.chdir(tmp_path)
    for recipe, expected in (("look-forward", True), ("state-action", False)):
        notes = check(settings(recipe, **{"objective.reward": "noted_of_test_build:f"}), subject)
        assert any("recipe state-action" in note for note in notes) is expected


@pytest.mark.parametrize(
    ("critic", "bins", "expected"), [("residual", 20, True), ("residual", 1, False), ("state-action", 20, False)]
)
def test_a_critic_that_does_not_see_what_its_returns_are_scaled_by(
    subject: Subject, critic: str, bins: int, expected: bool
) -> None:
    notes = check(settings("dino", **{"critic.name": critic, "critic.bins": bins}), subject)
    assert any("does not see the timestep" in note for note in notes) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"objective.transition": "policy"}, "transition = 'policy' changes nothing"),
        ({"objective.transition": "policy", "critic.target": "bootstrap", "critic.bins": 1}, ""),
        ({"critic.name": "none", "critic.target": "bootstrap"}, "target = 'bootstrap' changes nothing"),
        (
            {"adapter.name": "lora", "adapter.vectors": 3},
            "adapter.vectors = 3 changes nothing: it needs",
        ),
        ({"adapter.rank": 64}, "adapter.rank = 64 changes nothing: it needs adapter.name = lora or dora"),
        (
            {"adapter.name": "lora", "adapter.initial_word": "cat"},
            "changes nothing: it needs adapter.name",
        ),
        ({"data.augment_views": 3}, "data.augment_views = 3 changes nothing: it needs data.augment = true"),
        ({}, ""),
    ],
)
def test_settings_that_change_nothing_are_named(subject: Subject, overrides: dict[str, Any], expected: str) -> None:
    notes = [note for note in check(settings(**overrides), subject, overrides) if "changes nothing" in note]
    assert len(notes) == bool(expected)
    assert all(expected in note for note in notes)


def test_the_discount_of_the_direct_route_does_not_depend_on_a_target_that_nothing_learns(subject: Subject) -> None:
    direct = {"objective.reward_gradient": "direct", "objective.reward": "ssim", "critic.weight": 1.0}
    values = []
    for target in ("one-step", "bootstrap"):
        workshop = build(
            settings("dreambooth", **{"critic.target": target}, **direct), subject, build_pipeline("toybox", "cpu")
        )
        values.append(next(train(workshop.trainer, 1)).terms["value"])
    assert values[0] == values[1] != 0


@pytest.mark.parametrize(
    "overrides",
    [
        {"critic.weight": 0.0},
        {"critic.weight": 0.0, "critic.name": "none", "objective.reward_gradient": "direct"},
        {"critic.name": "none"},
    ],
)
def test_a_run_that_would_learn_of_nothing_is_refused(overrides: dict[str, Any]) -> None:
    with raises("nothing-to-learn", "objective.reconstruction_weight"):
        settings("released", **overrides)
    assert settings("released", **{"critic.steps": 0}).critic.steps == 0  # to compare with


@pytest.mark.parametrize(
    ("adapter", "route"),
    [
        ("full", "critic"), ("lora", "direct"), ("custom-diffusion", "critic"),
        ("p-plus", "direct"), ("neti", "critic"),
    ],
)  # fmt: skip
def test_activations_computed_anew_give_the_same_weights(subject: Subject, adapter: str, route: str) -> None:
    subject = replace(subject, identifier="<new>")
    passes: dict[bool, int] = {}
    trained: dict[bool, list[Tensor]] = {}
    follow = {"critic.name": "none", "objective.reward_gradient": "direct"} if route == "direct" else {}
    for anew in (False, True):
        config = settings(
            **{
                "objective.reward": "ssim",
                "adapter.name": adapter,
                "subject.identifier": "<new>",
                "critic.weight": 0.3,
                "model.gradient_checkpointing": anew,
            },
            **follow,
        )
        workshop = build(config, subject, build_pipeline("toybox", "cpu"))
        resnet = workshop.pipeline.unet.up_blocks[-1].resnets[0]
        calls: list[int] = []
        resnet.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        list(train(workshop.trainer, 2))
        passes[anew] = len(calls)
        trained[anew] = [p.detach() for p in workshop.trainer.parameters.values()]
    assert passes[True] > passes[False]
    for with_memory, without in zip(trained[False], trained[True], strict=True):
        torch.testing.assert_close(with_memory, without, rtol=1e-5, atol=1e-7)


def test_rewards_of_several_subjects_share_their_encoder(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def load(source: str, device: Any) -> Any:
        loads.append(source)
        return load_clip(source, device)

    load.__name__ = "load_clip"
    monkeypatch.setattr("lookforward.models.encoders.loaded.load_clip", load)
    config = settings(**{"objective.reward": "clip-image + clip-text"})
    photos = [torch.rand(2, 3, 32, 32) for _ in range(3)]
    build_environment(config, pipeline(), photos)
    assert len(loads) == 1


def test_a_sum_logs_its_parts(subject: Subject) -> None:
    (result,) = train(trainer_of(subject, **{"objective.reward": "look-forward + 0.5*ssim"}), 1)
    parts = result.terms["reward/look-forward"] + 0.5 * result.terms["reward/ssim"]
    assert result.terms["reward"] == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize(
    ("reward", "code"),
    [
        ("dinosaur", "reward-unknown"),
        ("2 * look-forward +", "reward-syntax"),
        ("no_such_module:f", "module-missing"),
        ("dino + 0.1*lpips", "package-missing"),
        (f"dino + embedding:{IDENTITY}", "encoder-for-evaluation"),
        (f"embedding:{JUDGE}/../judge", "encoder-for-evaluation"),
    ],
)
def test_a_wrong_reward_is_found_before_anything_is_drawn(
    subject: Subject, reward: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lookforward.assembly.class_images.class_images", lambda *_, **__: pytest.fail("drew prior images")
    )
    for look in (check, build):
        with raises(code):
            look(settings(**{"objective.reward": reward}), subject)


def test_an_encoder_for_evaluation_of_ones_own_training_is_no_reward_either(subject: Subject, tmp_path: Path) -> None:
    shutil.copytree(IDENTITY, tmp_path / "mine")
    with raises("encoder-for-evaluation", "mine"):
        check(settings(**{"objective.reward": f"embedding:{tmp_path / 'mine'}"}), subject)


def test_the_direct_route_wants_a_gradient(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards_of_test_build.py").write_text(
        "def brightness(images, prompts):\n    return images.mean(dim=(1, 2, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    direct = {"objective.reward_gradient": "direct", "critic.weight": 1.0}
    (result,) = train(trainer_of(subject, "dreambooth", **{"objective.reward": "ssim + 2*noise"}, **direct), 1)
    assert result.terms["value"] != 0
    parts = [result.terms["reward/ssim"], result.terms["reward/noise"]]
    assert result.terms["reward"] == pytest.approx(parts[0] + 2 * parts[1], rel=1e-5)
    name = "my_rewards_of_test_build:brightness"
    for wrong in (direct, {"baseline.name": "draft"}):  # reported before anything is drawn
        with raises("reward-not-differentiable", name, "critic"):
            trainer_of(subject, "dreambooth", **{"objective.reward": f"ssim + {name}"}, **wrong)
    (result,) = train(
        trainer_of(subject, **{"objective.reward": f"ssim + {name}"}), 1
    )  # the critic learns it all the same
    assert result.terms[f"reward/{name}"] > 0
    with raises("settings-conflict", "critic.name"):
        settings(**{"objective.reward_gradient": "direct"})


def test_a_critic_that_never_learns_stays_as_it_was(subject: Subject) -> None:
    trainer = trainer_of(subject, **{"critic.steps": 0})
    assert trainer.critic_updater is not None
    before = [p.detach().clone() for p in trainer.critic_updater.critic.parameters()]
    (result,) = train(trainer, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.critic_updater.critic.parameters(), strict=True))
    assert "critic_loss" not in result.terms
    assert result.terms["reward"] < 0


def test_the_critic_listens_every_so_often_and_speaks_after_its_warm_up(subject: Subject) -> None:
    trainer = trainer_of(subject, **{"critic.every": 2, "critic.warmup": 2})
    results = list(train(trainer, 4))
    assert ["critic_loss" in r.terms for r in results] == [True, False, True, False]
    assert ["value" in r.terms for r in results] == [False, False, True, True]


def test_a_tiny_decoder_shows_images_to_the_reward(subject: Subject, tmp_path: Path) -> None:
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    )  # fmt: skip
    tiny.save_pretrained(tmp_path / "tiny")
    trainer = trainer_of(subject, **{"objective.reward": "ssim", "objective.decoder": str(tmp_path / "tiny")})
    assert trainer.environment.decode is not None
    images = trainer.environment.decode(torch.zeros(2, 4, 16, 16))
    assert images.shape == (2, 3, 128, 128)
    assert 0 <= images.min() <= images.max() <= 1
    with raises("model-missing", "nowhere"):
        trainer_of(subject, **{"objective.reward": "ssim", "objective.decoder": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_takes_a_step_and_explains_itself(subject: Subject, recipe: str) -> None:
    if recipe == "flow-grpo":  # which Toybox is not
        with raises("baseline-flow", "toybox"):
            trainer_of(subject, recipe)
        list(train(build(settings(recipe, **{"baseline.dpok_trajectories": 2}), subject, make_sd3()).trainer, 1))
        return
    more = {"baseline.dpok_trajectories": 2} if recipe == "diffusion-nft" else {}
    list(train(trainer_of(subject, recipe, **more), 1))


def test_a_caption_that_the_model_cannot_read_to_its_end(photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    files = list(folder.glob("*.png"))

    def concept_of(caption: str) -> Subject:
        for file in files:
            file.with_suffix(".txt").write_text(caption)
        return load_subject(folder, class_noun="teapot", resolution=64)

    many = " ".join(["snow"] * 40)
    notes = check(settings(), concept_of(f"a photo of {{}} in the {many}"))
    assert sum("tokens; the model reads the first 30" in note for note in notes) == len(files)
    with raises("caption-too-long", "30 tokens"):
        check(settings(), concept_of(f"in the {many} a photo of {{}}"))


def test_a_schedule_that_ends_in_noise_alone_is_refused_where_eq_7_divides_by_zero(subject: Subject) -> None:
    dark = build_pipeline("toybox", "cpu")
    dark.scheduler = DDIMScheduler.from_config(dark.scheduler.config, rescale_betas_zero_snr=True)
    with raises("zero-snr", "Eq. 7"):
        build(settings(), subject, dark)
    scheduler: Any = dark.scheduler
    scheduler.register_to_config(prediction_type="v_prediction")  # which looks forward from noise alone
    assert build(settings(), subject, dark).trainer.policy.path.signal[-1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"addition_embed_type": "text_time"}, "takes further conditions, as Stable Diffusion XL's does"),
        ({"in_channels": 9}, "takes 9 channels and not the latents' 4"),
        ({"cross_attention_dim": 1024}, "reads words of 1024 numbers, and the text encoder's have 128"),
    ],
)
def test_models_of_another_kind_are_distinguished(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = build_pipeline("toybox", "cpu")
    untouched.unet.register_to_config(**change)
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", lambda *_, **__: untouched)
    with raises("model-kind", message):
        build_pipeline("toybox", "cpu")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("data.class_image_steps", 1000, "data.class_image_steps = 1000"),
        ("evaluation.sampler_steps", 2000, "evaluation.sampler_steps = 2000"),
    ],
)
def test_numbers_that_would_fail_later_are_found_first(subject: Subject, name: str, value: float, message: str) -> None:
    with raises("steps-out-of-range", message, "[1, 999]"):
        check(settings(**{name: value}), subject)


def test_a_critic_that_nobody_listens_to_is_reported(subject: Subject) -> None:
    expected = "critic.weight is 0, so that the reward changes nothing"
    assert any(expected in note for note in check(settings("dreambooth", **{"critic.name": "residual"}), subject))
    assert not any(expected in note for note in check(settings("dreambooth"), subject))


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_dpok_trains_the_unet_alone_with_every_adapter_that_it_takes(adapter: str) -> None:
    assert settings(
        "look-forward", **{"adapter.name": adapter}
    ).adapter.train_text_encoder  # what these adapters like on Toybox
    assert not settings("dpok", **{"adapter.name": adapter}).adapter.train_text_encoder


@pytest.mark.parametrize(
    ("recipe", "make"),
    [("draft", make_pipeline), ("dpok", make_pipeline), ("flow-grpo", make_sd3), ("diffusion-nft", make_pipeline),
     ("diffusion-nft", make_sd3)],
)  # fmt: skip
def test_the_compared_methods_resume_exactly(subject: Subject, tmp_path: Path, recipe: str, make: Any) -> None:
    short = {
        "baseline.sampler_steps": 3,
        "baseline.draft_last": 2,
        "baseline.guidance": 2.0,
        "baseline.dpok_trajectories": 2,
        "baseline.dpok_pairs": 2,
    }

    def fresh() -> Trainer:
        return build(settings(recipe, **short), subject, make()).trainer

    straight, first, second = fresh(), fresh(), fresh()
    terms = [r.terms for r in train(straight, 3)]
    list(train(first, 2))
    save_checkpoint(first, tmp_path)
    assert load_newest(second, tmp_path)
    assert [r.terms for r in train(second, 3)] == terms[2:]
    assert all(torch.equal(p, second.parameters[n]) for n, p in straight.parameters.items())


def test_draft_says_what_to_do_about_a_reward_without_gradient(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flat_of_test_build.py").write_text("def flat(images, prompts):\n    return [0.0] * len(images)\n")
    monkeypatch.chdir(tmp_path)
    with raises("reward-not-differentiable", "flat_of_test_build:flat", "DRaFT"):
        trainer_of(
            subject,
            "draft",
            **{"objective.reward": "flat_of_test_build:flat", "baseline.sampler_steps": 2, "baseline.draft_last": 1},
        )
    with raises("steps-out-of-range", "baseline.sampler_steps"):
        trainer_of(subject, "draft", **{"baseline.sampler_steps": 1001})
