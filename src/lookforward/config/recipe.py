"""From a recipe's name and the user's own words to settings.

A recipe is a short TOML file: tables of settings that differ from the defaults, `about` in a sentence, `base` for the
recipe it goes over, and under [family.NAME] what differs further for one family of models. Each layer goes over the
ones before it: defaults, the model's own defaults, bundled recipes with their tables for the model's family, what the
adapter needs, the user's own recipe, the user's options.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookforward.adapters import ADAPTERS
from lookforward.bundle import BUNDLED, TOYBOX, known_model
from lookforward.config.methods import COMPARED
from lookforward.config.reading import check_value, flatten, read_toml, require_learning, structure, with_values
from lookforward.config.settings import GROUPS, Settings
from lookforward.errors import LookforwardError
from lookforward.models.families import FAMILIES, family_named

MEASUREMENTS = 8  # of a run with the recipe's steps: more would cost over 15% of its time
RECIPES = Path(__file__).parent / "recipes"
NEW_WORD = "<sks>"  # the identifier of a subject that an encoder writes a word for


def load_settings(recipe: str, overrides: Mapping[str, Any]) -> Settings:
    """The settings of a run. recipe: a bundled name or a TOML file. overrides: by dotted names, or nested.

    Where a bundled recipe chooses the adapter itself, what it says goes over what the adapter needs.

    Raises:
        LookforwardError: an unknown recipe, an unknown setting, or a value of the wrong kind or range; it names them.
    """
    overrides = flatten(overrides)
    layers, own, families = _layers(recipe, overrides)
    chose = [i for i, layer in enumerate(layers) if "adapter.name" in layer]
    chosen = layers[chose[-1]]["adapter.name"] if chose else "full"
    adapter = overrides.get("adapter.name", chosen)
    needs = next((spec.defaults for spec in ADAPTERS if spec.name == adapter), {})  # a wrong name is refused below
    # Over the bundled recipes, which mean all weights unless they choose the adapter, and below what the user wrote
    written = own[0] if own else len(layers)
    if _last((*layers, overrides), "baseline.name") in COMPARED:
        layers.insert(written, {"adapter.train_text_encoder": False})  # they train the denoiser alone
    if needs:
        layers.insert(min(chose[-1], written) if chose and chosen == adapter else written, _layer(needs, families))
    encoder = str(_last((*layers, overrides), "adapter.encoder") or "")
    if encoder and not is_ip_adapter(encoder):  # whose word is new to the model
        layers.insert(0, {"subject.identifier": NEW_WORD})
    for name, value in overrides.items():
        check_value(name, value)
    values = model_defaults(families)
    for layer in layers:
        values |= layer
    return require_learning(structure(values | {"run.recipe": recipe} | overrides, f"recipe {recipe}"))


def is_ip_adapter(encoder: str) -> bool:
    """Whether `adapter.encoder` names public IP-Adapter weights, REPOSITORY:FILE.safetensors, and not a folder."""
    return ":" in encoder and encoder.endswith(".safetensors")


def written_settings(recipe: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the user wrote of the settings of a run, in a recipe of their own or as options: by dotted names.

    Raises:
        LookforwardError: as `load_settings`.
    """
    overrides = flatten(overrides)
    layers, own, _ = _layers(recipe, overrides)
    return {name: value for i in own for name, value in layers[i].items()} | overrides


def recipe_notes(recipe: str, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes where a run's own settings.toml is the recipe, and another adapter's needs went over what it says."""
    overrides = flatten(overrides)
    settings = load_settings(recipe, overrides)
    values = settings.flat()
    layers, _, families = _layers(recipe, overrides)
    run = next((layer for layer in layers if layer.get("subject.photos")), {})
    if run.get("adapter.name", settings.adapter.name) == settings.adapter.name:
        return ()
    needs = _layer(next(spec.defaults for spec in ADAPTERS if spec.name == settings.adapter.name), families)
    lost = [f"{name} = {values[name]!r} for {run[name]!r}" for name in needs if run.get(name) != values[name]]
    lost = [one for one in lost if one.partition(" ")[0] not in overrides]
    if not lost:
        return ()
    return (
        f"{recipe} is of a run with adapter {run['adapter.name']}; what {settings.adapter.name} needs goes over it: "
        f"{', '.join(lost)}",
    )


def _layers(recipe: str, overrides: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[int], tuple[str, ...]]:
    """The settings of a recipe and its bases, the lowest first; which of these the user wrote; the model's families."""
    found = _with_bases(find_recipe(recipe))
    tables = [table for _, table in found]
    model = [table["model"]["name"] for table in tables if "name" in table.get("model", {})][-1:] or [TOYBOX]
    families = families_of(str(overrides.get("model.name", model[0])), str(overrides.get("model.revision", "")))
    layers, own = [_layer(table, families) for table in tables], []
    for i, layer in enumerate(layers):
        if layer.get("subject.photos"):  # a run's own file, which names its recipe, and all settings
            layer.pop("run.recipe", None)
        elif found[i][0].parent != RECIPES:
            own.append(i)
    if any("run.recipe" in layer for layer in (*layers, overrides)):
        raise LookforwardError(
            'run.recipe cannot be set: give the recipe as --recipe, or as base = "…" in a recipe file.',
            code="recipe-as-setting",
        )
    return layers, own, families


def _last(layers: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The value of a setting in the highest layer that has it."""
    return next((layer[name] for layer in reversed(layers) if name in layer), None)


def families_of(model: str, revision: str = "") -> tuple[str, ...]:
    """The tables [family.NAME] that hold for a model, the more general first: a bundled one's are those of its family,
    of all bundled models ("toybox"), and its own."""
    family = family_named(model, revision).name
    if model not in BUNDLED:
        return (family,)
    bundled = known_model(model)
    return family, TOYBOX, bundled.name if bundled else model


def model_defaults(families: tuple[str, ...]) -> dict[str, Any]:
    """What a family's models have in common, and over it a bundled model's own. families: as of `families_of`."""
    bundled = known_model(families[-1])
    own = next((flatten(family.defaults) for family in FAMILIES if family.name in families), {})
    return own | (flatten(bundled.defaults) if bundled else {})


def _with_bases(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """File and tables of a recipe and of those that it is based on, the lowest first. A base is a name, or a file
    beside it.

    Raises:
        LookforwardError: a base is no recipe, or they go in a circle.
    """
    tables, seen = [], [path.resolve()]
    while True:
        table = read_toml(path)
        base = table.pop("base", None)
        tables.insert(0, (path, table))
        if base is None:
            return tables
        if not isinstance(base, str):
            raise LookforwardError(
                f'base = {base!r} in {path}: give the name of a recipe, such as "look-forward".', code="recipe-base"
            )
        path = find_recipe(str(path.parent / base) if base.endswith(".toml") else base)
        if path.resolve() in seen:
            names = ", ".join(p.name for p in seen)
            raise LookforwardError(f"{path} is its own base, through {names}.", code="recipe-base")
        seen.append(path.resolve())


def _layer(table: Mapping[str, Any], families: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a recipe's tables for one model, by dotted names, without what only describes the recipe."""
    own = {name: value for name, value in table.items() if name not in ("family", "about", "measured")}
    by_family = table.get("family", {})
    if not isinstance(by_family, Mapping) or not all(isinstance(one, Mapping) for one in by_family.values()):
        raise LookforwardError(
            "family is a table of tables: write [family.sd.optimizer] above them.", code="recipe-family"
        )
    for name in own:
        if name in GROUPS and not isinstance(own[name], Mapping):
            raise LookforwardError(f"{name} is a table of settings: write [{name}] above them.", code="recipe-table")
    layer = flatten(own)
    for family in families:
        layer |= flatten(by_family.get(family, {}))
    return layer


def until_best(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """Settings of a run that ends itself: when the best step lies three measurements back.

    given: what the user gave, by dotted names, which stays. At most three times the recipe's steps are taken.

    Raises:
        LookforwardError: the learning rate is to fall towards an end that is not known.
    """
    if settings.optimizer.decay > 0 or settings.optimizer.schedule != "constant":
        raise LookforwardError(
            "The learning rate falls towards the last step, and --until-best does not know it: set optimizer.decay = 0 "
            "and optimizer.schedule = constant, or give --run.steps and --evaluation.every instead.",
            code="settings-conflict",
        )
    steps = settings.run.steps
    asked = settings.evaluation  # of a recipe of the user's own
    own = {
        "run.steps": 3 * steps,
        "evaluation.every": asked.every or max(1, steps // MEASUREMENTS),
        "evaluation.patience": asked.patience or 3,
    }
    if given.get("evaluation.every") == 0:
        raise LookforwardError(
            "--until-best measures the run to know its end, but evaluation.every = 0 turns measuring off: remove it.",
            code="settings-conflict",
        )
    return with_values(settings, {name: value for name, value in own.items() if name not in given})


def require_followed(settings: Settings, given: Mapping[str, Any]) -> None:
    """Raise LookforwardError if the user gave a reward, and what is trained would not depend on it."""
    if "objective.reward" in given and not settings.follows_reward:
        raise LookforwardError(
            f"objective.reward = {settings.objective.reward!r} would change nothing: recipe {settings.run.recipe} does "
            "not follow a reward. Use look-forward, state-action or best, or set critic.name and critic.weight.",
            code="reward-unused",
        )


def find_recipe(recipe: str) -> Path:
    """The file of a bundled recipe's name, or the given file itself."""
    if recipe.endswith(".toml"):
        path = Path(recipe)
        if not os.path.isfile(path):
            raise LookforwardError(f"There is no recipe file {recipe}; check the path.", code="recipe-missing")
        return path
    path = RECIPES / f"{recipe}.toml"
    if not os.path.isfile(path):
        names, near = ", ".join(recipe_names()), difflib.get_close_matches(recipe, recipe_names(), n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise LookforwardError(
            f"There is no recipe {recipe!r}.{meant} Bundled: {names}; or give a file ending in .toml.",
            code="recipe-missing",
        )
    return path


def recipe_names() -> list[str]:
    """The bundled recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))
