"""The pages docs/cli.md and docs/settings.md, written from the commands and the settings themselves.

python -m lookforward.cli.reference DOCS
"""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import docstring_parser

from lookforward.adapters import ADAPTERS
from lookforward.bundle import BUNDLED, find_bundle, known_model
from lookforward.cli.main import COMMAND_GROUPS, COMMANDS, Command, find_command, summary
from lookforward.cli.options import GridOptions, RunOptions, shown_default
from lookforward.config.reading import flatten, read_toml, toml_value
from lookforward.config.recipe import RECIPES, recipe_names
from lookforward.config.settings import FIELDS, GROUPS, SHORT, Field
from lookforward.config.spec import in_words, range_in_words

_NOTE = "<!-- Written by `make docs` from the code: change it there. -->\n\n"
_EXIT_CODES = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 2 | wrong options or input; the message says how to fix it |
| 3 | `benchmark`: some cells failed; the message lists them |
| 4 | out of memory; the message names settings that would fit. The last checkpoint is kept |
| 130, 143, 129 | stopped by Ctrl-C, SIGTERM or SIGHUP; run the same command again. `train` saved its last step |
| 1 | unexpected error, with a traceback: please report it |
"""


def cli_page() -> str:
    """docs/cli.md: every command with its options."""
    commands = {name: find_command(name) for name in COMMANDS}
    overview = [f"| [`{name}`](#{name}) | {summary(name, module)} |" for name, module in COMMANDS.items()]
    parts = [
        f"# Command line\n\n{_NOTE}`lookforward COMMAND --help` lists the options of a command. "
        "`python -m lookforward` is the same program.\n\n| command | what it does |\n|---|---|\n"
        + "\n".join(overview)
        + "\n",
        _EXIT_CODES,
        *(_command_section("##", f"lookforward {name}", name, command) for name, command in commands.items()),
    ]
    for group, (about, modules) in COMMAND_GROUPS.items():
        parts.append(f"## {group}\n\n{about}\n")
        parts += [
            _command_section("###", f"lookforward {group} {name}", f"{group} {name}", find_command(name, module))
            for name, module in modules.items()
        ]
    if (bundle := find_bundle()) is not None:
        parts.append("## toybox\n\nCommands for the bundled model.\n")
        parts += [
            _command_section("###", f"lookforward toybox {name}", f"toybox {name}", command)
            for name, command in bundle.commands().items()
        ]
    return "\n".join(parts)


def _command_section(level: str, usage: str, title: str, command: Command) -> str:
    help = docstring_parser.parse(inspect.getdoc(command) or "")
    help_texts = {one.arg_name: (one.description or "").replace("\n", " ") for one in help.params}
    rows, words, settings = [], "", ""
    for one in inspect.signature(command).parameters.values():
        if one.annotation in (RunOptions, GridOptions):
            settings = "\nEvery [setting](settings.md) is an option too, such as `--critic.weight 0.5`.\n"
            if one.annotation is RunOptions:
                short = ", ".join(f"`{_flag(name)}` for `{setting}`" for name, setting in SHORT.items())
                settings += f"Short names: {short}.\n"
            continue
        positional = "Positional" in str(one.annotation) or "_PositionalMarker" in str(get_args(one.annotation))
        name = one.name.upper() if positional else _flag(one.name)
        words += f" {name}" if positional else ""
        rows.append(f"| `{name}` | {_default(one)} | {_cell(help_texts.get(one.name, ''))} |")
    about = " ".join((help.description or "").split())
    table = "\n".join(["| option | default | |", "|---|---|---|", *rows]) + "\n" if rows else ""
    return f"{level} {title}\n\n```\n{usage}{words} …\n```\n\n{about}\n\n{table}{settings}"


def _default(one: inspect.Parameter) -> str:
    if one.default is inspect.Parameter.empty:
        return "required"
    if one.default in (None, "", ()):
        return ""
    if isinstance(one.default, bool):
        return "on" if one.default else "off"
    value = " ".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
    return f"`{value}`"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def settings_page() -> str:
    """docs/settings.md: every setting, and what each recipe and adapter changes."""
    models = [known_model(name) for name in BUNDLED[1:]]
    bundled = {one.name: flatten(one.defaults) for one in models if one}
    parts = [
        f"# Settings\n\n{_NOTE}Every setting is an option of `lookforward train`: `--critic.weight 0.5`. In Python it "
        'is `personalize(…, settings={"critic.weight": 0.5})`, in a recipe file `weight = 0.5` under `[critic]`. '
        "A run writes all of its settings into `settings.toml`, which is a recipe too.\n\n"
        "Later layers win: the defaults below, the model's own defaults, the recipe's `base`, the recipe, its table "
        "`[family.NAME]` for the model, what the adapter needs, your own options.\n\n"
        "† changes only device, speed or memory, not the result; ‡ changes only when files are written, or where "
        "photos are. You can change both kinds when you resume a run.\n"
    ]
    for group, kind in GROUPS.items():
        rows = [_row(one, bundled) for one in FIELDS.values() if one.group == group]
        head = "| setting | default | values | |\n|---|---|---|---|"
        parts.append(f"## {group}\n\n{kind.__doc__}\n\n{head}\n" + "\n".join(rows) + "\n")
    parts.append("## Recipes\n")
    parts += [_differences(name, read_toml(RECIPES / f"{name}.toml")) for name in recipe_names()]
    parts.append("## What adapters need\n")
    parts += [_differences(one.name, {"about": one.help, **one.defaults}) for one in ADAPTERS if one.defaults]
    return "\n".join(parts)


def _row(one: Field, bundled: Mapping[str, Mapping[str, Any]]) -> str:
    spec = one.spec
    mark = " †" if spec.machine_only else " ‡" if spec.free else ""
    own = {model: values[one.name] for model, values in bundled.items() if one.name in values}
    if len(own) == len(bundled) and len(set(own.values())) == 1:
        own = {"Toybox": next(iter(own.values()))}
    default = f"`{shown_default(one)}`" + "".join(f"; {model} `{value}`" for model, value in own.items())
    kind = "" if one.choices else one.kind.__name__ + (f" {range_in_words(spec.within)}" if spec.within else "")
    values = kind or ", ".join(f"`{choice}`" for choice in one.choices)
    help = spec.help
    if spec.only_with:
        help += f" Needs {' and '.join(in_words(need, '`') for need in spec.only_with)}."
    return f"| `{one.name}`{mark} | {default} | {values} | {_cell(help)} |"


def _differences(name: str, table: dict[str, Any]) -> str:
    about, family = table.pop("about", ""), table.pop("family", {})
    lines = [f"**`{name}`**: {about}", ""]
    shown = {"": flatten(table)} | {f"on {model}: ": flatten(values) for model, values in family.items()}
    lines += [
        f"- {where}" + ", ".join(f"`{setting}` = `{toml_value(value)}`" for setting, value in values.items())
        for where, values in shown.items()
        if values
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Write both pages into docs, or another folder that is given."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, page in (("cli.md", cli_page()), ("settings.md", settings_page())):
        (folder / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
