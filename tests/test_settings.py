"""From recipes and words to settings: layers, names, kinds, ranges; and back to TOML."""

import tomllib
from pathlib import Path

import pytest

from errors import raises
from lookforward.config.reading import nearest, require_learning, structure, to_toml, with_values
from lookforward.config.recipe import load_settings, recipe_names
from lookforward.config.settings import FIELDS, Settings
from lookforward.config.spec import FACTS


def test_a_recipe_that_chooses_its_adapter_goes_over_what_the_adapter_needs(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('adapter.name = "lora"\nadapter.rank = 16\n[family.toybox.optimizer]\nlearning_rate = 5e-5\n')
    settings = load_settings(str(mine), {"run.steps": 3})
    assert (settings.adapter.rank, settings.adapter.alpha) == (16, 8.0)
    assert (settings.optimizer.learning_rate, settings.run.steps) == (5e-5, 3)
    mine.write_text("optimizer.learning_rate = 5e-5\n")  # of another adapter, perhaps
    needed = load_settings("dreambooth", {"adapter.name": "lora"})
    settings = load_settings(str(mine), {"adapter.name": "lora"})  # what the user wrote goes over what it needs
    assert settings == with_values(needed, {"optimizer.learning_rate": 5e-5, "run.recipe": str(mine)})
    mine.write_text(to_toml(load_settings("dreambooth", {"subject.photos": "dog"})))  # nobody wrote it
    settings = load_settings(str(mine), {"adapter.name": "lora"})
    assert settings.optimizer.learning_rate == needed.optimizer.learning_rate


@pytest.mark.parametrize("adapter", ["lora", "textual-inversion", "custom-diffusion"])
def test_an_adapter_over_a_base_has_what_it_needs(adapter: str, tmp_path: Path) -> None:
    mine, more = tmp_path / "mine.toml", tmp_path / "more.toml"
    flipped = {"data.flip": True, "run.recipe": str(mine)}
    mine.write_text(f'base = "look-forward"\nadapter.name = "{adapter}"\ndata.flip = true\n')
    plain = load_settings("look-forward", {"adapter.name": adapter})
    assert load_settings(str(mine), {}) == with_values(plain, flipped)
    mine.write_text(f'base = "look-forward"\ndata.flip = true\n[family.toybox]\nadapter.name = "{adapter}"\n')
    assert load_settings(str(mine), {}) == with_values(plain, flipped)
    elsewhere = load_settings("look-forward", {"model.name": "some/model"})
    assert load_settings(str(mine), {"model.name": "some/model"}) == with_values(elsewhere, flipped)
    more.write_text('base = "mine.toml"\n[family.toybox]\noptimizer.learning_rate = 0.5\n')  # so it goes over both
    faster = with_values(plain, {**flipped, "run.recipe": str(more), "optimizer.learning_rate": 0.5})
    assert load_settings(str(more), {}) == faster
    assert load_settings(str(more), {"adapter.name": "full"}).optimizer.learning_rate == 0.5


def test_a_recipe_is_where_settings_start_from(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('run.recipe = "best"\n')
    for recipe, given in (("look-forward", {"run.recipe": "dreambooth"}), (str(mine), {})):
        with raises("recipe-as-setting", "--recipe"):
            load_settings(recipe, given)
    own = load_settings("best", {"subject.photos": "dog"})
    mine.write_text(to_toml(own))  # a run's settings.toml is a recipe too
    assert load_settings(str(mine), {}) == with_values(own, {"run.recipe": str(mine)})


def test_a_recipe_may_have_another_below_it(tmp_path: Path) -> None:
    mine, more = tmp_path / "mine.toml", tmp_path / "more.toml"
    mine.write_text(
        'base = "state-action"\ncritic.weight = 0.7\nrun.steps = 40\n[family.toybox]\ndata.class_images = 5\n'
    )
    more.write_text('base = "mine.toml"\ndata.class_images = 6\n')  # beside it, wherever we stand
    below, first, second = (load_settings(r, {}) for r in ("state-action", str(mine), str(more)))
    assert (first.critic.weight, first.run.steps, first.data.class_images) == (0.7, 40, 5)
    assert (second.critic.weight, second.run.steps, second.data.class_images) == (0.7, 40, 6)
    assert first.critic.name == "state-action"
    assert (first.data.resolution, first.optimizer.learning_rate) == (64, below.optimizer.learning_rate)
    on_another = load_settings(str(mine), {"model.name": "some/model"})
    assert (on_another.run.steps, on_another.data.resolution, on_another.data.class_images) == (40, 512, 8)
    mine.write_text('base = "more.toml"\n')
    with raises("recipe-base", "mine.toml", "more.toml"):
        load_settings(str(mine), {})
    mine.write_text("base = 3\n")
    with raises("recipe-base", "base = 3"):
        load_settings(str(mine), {})
    mine.write_text('base = "paper"\n')
    with raises("recipe-missing", "paper"):
        load_settings(str(mine), {})


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ("critic = 3", "recipe-table", "[critic]"),
        ("family = 3", "recipe-family", "[family."),
        ("[family]\ntoybox = 3", "recipe-family", "[family."),
        ("[toybox]\nresolution = 64", "setting-unknown", "toybox.resolution"),
        ("steps = 3", "setting-unknown", "run.steps"),
        ("lora_rank = 3", "setting-unknown", "adapter.rank"),
        ("critic_weight = 3", "setting-unknown", "critic.weight"),
        ("[critic]\nwieght = 3", "setting-unknown", "critic.weight"),
        ("[critic", "toml-damaged", "mine.toml"),
    ],
)
def test_a_wrong_recipe_names_what_is_wrong(text: str, code: str, fact: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    with raises(code, fact):
        load_settings(str(mine), {})


def test_a_wrong_value_is_blamed_on_who_wrote_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('adapter.name = "loraa"')
    with raises("setting-choice", "mine.toml", "Did you mean lora?"):
        load_settings(str(mine), {})
    with raises("setting-choice", "Did you mean lora?") as caught:
        load_settings("look-forward", {"adapter.name": "loraa"})
    assert "recipe" not in str(caught.value)
    with raises("recipe-missing", "Did you mean best?"):
        load_settings("bset", {})


@pytest.mark.parametrize(
    ("given", "code", "fact"),
    [
        ({"run.steps": "3"}, "setting-kind", "int"),
        ({"run.steps": 1.5}, "setting-kind", "int"),
        ({"run.steps": True}, "setting-kind", "int"),
        ({"data.flip": 1}, "setting-kind", "bool"),
        ({"optimizer.learning_rate": float("nan")}, "setting-range", "nan"),
        ({"critic.name": "big"}, "setting-choice", "residual"),
        ({"objective.discount": 1.1}, "setting-range", "(0, 1]"),
        ({"objective.discount": 0}, "setting-range", "(0, 1]"),
        ({"critic.target_momentum": 1.0}, "setting-range", "[0, 1)"),
        ({"run.seed": 2**63}, "setting-range", "[0, 2^63)"),
        ({"run.seed": -1}, "setting-range", "[0, 2^63)"),
        ({"run.steps": 0}, "setting-range", "[1, 100000000]"),
        ({"evaluation.sampler_steps": 0}, "setting-range", "greater than 0"),
        ({"critic.weight": 1e30}, "setting-range", "[0, 1000000]"),
        ({"adapter.rank": 10**12}, "setting-range", "[1, 65536]"),
        ({"objective.prior_weight": 1.0, "data.class_images": 0}, "settings-conflict", "data.class_images"),
        ({"objective.reward_gradient": "direct", "critic.name": "residual"}, "settings-conflict", "critic.name"),
        ({"baseline.name": "draft", "critic.name": "residual"}, "settings-conflict", "critic.name"),
        ({"baseline.name": "draft", "baseline.draft_last": 51}, "settings-conflict", "sampler_steps"),
        (
            {"baseline.name": "draft", "baseline.draft_last": 3, "baseline.draft_noises": 2},
            "settings-conflict",
            "draft_last = 1",
        ),
        ({"baseline.name": "dpok"}, "settings-conflict", "train_text_encoder"),
        ({"baseline.dpok_trajectories": 1}, "setting-range", "[2, 10000]"),
        ({"adapter.oft_block_size": 1}, "setting-range", "at least 2"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_may_be(given: dict[str, object], code: str, fact: str) -> None:
    with raises(code, fact, *list(given)[-1:] if code.startswith("setting-") else ()):
        structure(given, "the test")


def test_numbers_at_the_ends_of_their_ranges() -> None:
    ends = {"objective.discount": 1, "critic.target_momentum": 0.0, "run.seed": 2**63 - 1, "optimizer.decay": 1.0}
    assert structure(ends, "the test").changed() == {k: v for k, v in ends.items() if v != FIELDS[k].default}
    assert isinstance(structure(ends, "the test").objective.discount, float)


@pytest.mark.parametrize(
    ("values", "learns"),
    [
        ({"objective.reconstruction_weight": 0.0}, False),
        ({"objective.reconstruction_weight": 0.0, "critic.name": "residual"}, False),
        ({"objective.reconstruction_weight": 0.0, "critic.name": "residual", "critic.weight": 1.0}, True),
        (
            {
                "objective.reconstruction_weight": 0.0,
                "objective.reward_gradient": "direct",
                "critic.weight": 1.0,
            },
            True,
        ),
        ({"critic.weight": 0.0}, True),
    ],
)
def test_a_run_needs_something_to_learn_from(values: dict[str, object], learns: bool) -> None:
    settings = structure(values, "the test")
    if learns:
        assert require_learning(settings) is settings
    else:
        with raises("nothing-to-learn", "critic.weight"):
            require_learning(settings)


@pytest.mark.parametrize("recipe", recipe_names())
def test_settings_survive_toml(recipe: str) -> None:
    text = 'a "dog" with \\ and \n and é'
    settings = load_settings(recipe, {"subject.photos": text, "optimizer.learning_rate": 1 / 3})
    tables = tomllib.loads(to_toml(settings))
    assert list(tables) == ["subject", "data", "model", "adapter", "optimizer", "objective", "critic", "baseline",
                            "evaluation", "run"]  # fmt: skip
    assert structure(tables, "the test") == settings
    assert with_values(Settings(), settings.flat()) == settings


def test_every_setting_says_what_it_is() -> None:
    for name, one in FIELDS.items():
        assert one.spec.help.endswith("."), name
        assert not (one.spec.machine_only and not (one.spec.free and one.spec.of_cell)), name
        if one.kind in (int, float) and one.spec.within:
            assert (one.spec.within[0], one.spec.within[-1]) in {("(", ")"), ("[", ")"), ("(", "]"), ("[", "]")}, name
        for other, wanted in one.spec.only_with:
            assert other in FIELDS or other in FACTS, name
            assert not isinstance(wanted, str) or wanted[0] in "([", name


def test_old_flat_names_lead_to_the_new_ones() -> None:
    for old, new in {"lora_rank": "adapter.rank", "steps": "run.steps", "batch": "run.batch_size"}.items():
        assert nearest(old) == new
