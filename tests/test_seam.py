"""The seam between the library and model architectures: only a family's own file knows its components by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lookforward
from lookforward.models.families import FAMILIES, family_named

SOURCE = Path(lookforward.__file__).parent
COMPONENTS = {name for family in FAMILIES for name in (family.denoiser, *family.text_encoders)}
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if SOURCE / "models" / "families" not in path.parents]


def components_named(source: str) -> Iterator[str]:
    """Where code names a component: an attribute, a keyword, a definition, or a string that is one; prose may."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                found = {name} & COMPONENTS
            case ast.Constant(value=str(text)) if " " not in text.strip():
                found = set(text.replace("/", ".").split(".")) & COMPONENTS
            case _:
                continue
        yield from (f"line {node.lineno}: {name}" for name in sorted(map(str, found)))


def test_what_is_looked_for_is_found() -> None:
    assert {"unet", "transformer", "text_encoder", "text_encoder_2"} <= COMPONENTS
    code = "pipeline.unet(1)\nload(text_encoder_2=2)\nx['transformer']\ny = 'text_encoder.layer'\ndef unet(): 'A unet.'"
    assert len(list(components_named(code))) == 5
    assert list(components_named("settings.adapter.train_text_encoder")) == []
    assert len(FILES) > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_but_a_familys_names_its_components(path: Path) -> None:
    assert list(components_named(path.read_text(encoding="utf-8"))) == []


def test_a_models_family_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    assert family_named(str(tmp_path / "absent")) is family_named(str(tmp_path)) is FAMILIES[0]
    (tmp_path / "sd3").mkdir()
    for family in FAMILIES:
        folder = tmp_path / family.name
        folder.mkdir(exist_ok=True)
        (folder / "model_index.json").write_text(f'{{"_class_name": "{family.pipeline_class}"}}')
        assert family_named(str(folder)) is family
