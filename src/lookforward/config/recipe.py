"""A recipe's name, and what is said beside it, to a config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lookforward.config.settings import TOYBOX, Config, read_toml, require_teaching, structure
from lookforward.errors import LookforwardError

RECIPES = Path(__file__).parent / "recipes"


def load_config(recipe: str, overrides: Mapping[str, Any]) -> Config:
    """Defaults, then the recipe (a name or a TOML file), then what its adapter needs, then `overrides`.

    A recipe with a `base` goes over that recipe. What a recipe says that chooses the adapter itself goes over what the
    adapter needs.

    Raises:
        LookforwardError: an unknown recipe, an unknown setting, or a value of the wrong kind; it names them.
    """
    tables = _with_bases(find_recipe(recipe))
    for table in tables:
        if "photos" in table:  # a run's own config.toml, which tells what it began from
            table.pop("recipe", None)
        if not isinstance(table.get(TOYBOX, {}), Mapping):
            raise LookforwardError(f"{TOYBOX} in recipe {recipe} is a table of settings: write [{TOYBOX}] above them.")
    if "recipe" in overrides or any("recipe" in {*table, *table.get(TOYBOX, ())} for table in tables):
        raise LookforwardError(
            'recipe is no setting but what settings start from: give it as --recipe, or as base = "…" in a recipe file.'
        )
    model = [table["model"] for table in tables if "model" in table][-1:] or [TOYBOX]
    on_toybox = overrides.get("model", model[0]) == TOYBOX
    settings = [_flatten(table, on_toybox) for table in tables]
    chose = [i for i, table in enumerate(settings) if "adapter" in table]
    chosen = settings[chose[-1]]["adapter"] if chose else "full"
    adapter = overrides.get("adapter", chosen)
    if (needs := RECIPES / "adapters" / f"{adapter}.toml").is_file():
        # Below the table that chose it, and above those that may have been meant for all weights
        place = chose[-1] if chose and chosen == adapter else len(settings)
        settings.insert(place, _flatten(read_toml(needs), on_toybox))
    values = {name: value for table in settings for name, value in table.items()}
    if values.get("method") == "dpok":
        values["train_text_encoder"] = False  # the UNet alone, whatever the adapter would like
    return require_teaching(structure(values | {"recipe": recipe} | dict(overrides), f"recipe {recipe}"))


def _with_bases(path: Path) -> list[dict[str, Any]]:
    """The tables of a recipe and of those that it is based on, the lowest first. A base is a name, or a file beside it.

    Raises:
        LookforwardError: a base is no recipe, or they go in a circle.
    """
    tables, seen = [], [path.resolve()]
    while True:
        table = read_toml(path)
        base = table.pop("base", None)
        tables.insert(0, table)
        if base is None:
            return tables
        if not isinstance(base, str):
            raise LookforwardError(f'base = {base!r} in {path}: give the name of a recipe, such as "look-forward".')
        path = find_recipe(str(path.parent / base) if base.endswith(".toml") else base)
        if path.resolve() in seen:
            raise LookforwardError(f"{path} is its own base, by way of {', '.join(p.name for p in seen)}.")
        seen.append(path.resolve())


def _flatten(table: Mapping[str, Any], on_toybox: bool) -> dict[str, Any]:
    """The settings of a recipe's table for one model, without what is said about them."""
    settings = {name: value for name, value in table.items() if name not in (TOYBOX, "about", "measured")}
    return settings | (table.get(TOYBOX, {}) if on_toybox else {})


def require_followed(config: Config, given: Mapping[str, Any]) -> None:
    """Raise LookforwardError where a reward was given, and what is trained would not depend on it."""
    if "reward" in given and not config.follows_reward:
        raise LookforwardError(
            f"reward = {config.reward!r} would change nothing: recipe {config.recipe} does not follow a reward. Take "
            "look-forward, state-action or best, or set critic and critic_weight."
        )


def find_recipe(recipe: str) -> Path:
    """The file of a bundled recipe's name, or the given file itself."""
    if recipe.endswith(".toml"):
        path = Path(recipe)
        if not path.is_file():
            raise LookforwardError(f"There is no recipe file {recipe}; check the path.")
        return path
    path = RECIPES / f"{recipe}.toml"
    if not path.is_file():
        names = ", ".join(recipe_names())
        raise LookforwardError(f"There is no recipe {recipe!r}. Bundled: {names}; or give a file ending in .toml.")
    return path


def recipe_names() -> list[str]:
    """The bundled recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))
