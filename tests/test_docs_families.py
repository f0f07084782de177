"""docs/families.md says what is tested: every mark has tests that exist, and every dash has none."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from family_cells import CELLS, COLUMNS, MODELS, marks
from lookforward.adapters import ADAPTERS
from lookforward.models.families import FAMILIES
from lookforward.models.meta import known_sizes

ROOT = Path(__file__).parents[1]
PAGE, MEMORY = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("families.md", "memory.md"))
SIZES = known_sizes()
NUMBER = re.compile(r"[\d.]+")


def memory_row(model: str) -> str:
    """The line of a published model in the table of docs/memory.md."""
    (line,) = [one for one in MEMORY.splitlines() if one.startswith(f"| [{SIZES[model]['label']}](")]
    return line


def peak(model: str) -> float:
    """The least GiB that a model needs: each cell has what training takes, and in brackets drawing."""
    cells = memory_row(model).strip("|").split("|")[4:]
    return min(max(float(number) for number in NUMBER.findall(cell)) for cell in cells)


@pytest.fixture(scope="module")
def collected(request: pytest.FixtureRequest) -> set[str]:
    """The ids of all tests in the files that a mark names."""
    found = set[str]()
    for file in sorted({one.partition("::")[0] for cells in CELLS.values() for ids in cells.values() for one in ids}):
        module = pytest.Module.from_parent(request.session, path=ROOT / file)
        found |= {one.nodeid for one in module.collect() if not {"gpu", "skip"} & {m.name for m in one.iter_markers()}}
    return found


def test_every_mark_rests_on_tests_that_exist(collected: set[str]) -> None:
    assert set(CELLS) == set(MODELS) == {family.name for family in FAMILIES}
    for family, cells in CELLS.items():
        assert set(cells) <= set(COLUMNS), family
        for column, tests in cells.items():
            assert tests
            assert set(tests) <= collected, (family, column)


def test_the_page_has_the_marks_of_the_cells_and_nothing_else() -> None:
    expected = marks({model: peak(model) for model in SIZES})
    found = PAGE[PAGE.index("| family |") :].split("\n\n", 1)[0].splitlines()
    assert found == expected, "put these lines into docs/families.md:\n" + "\n".join(expected)


def test_every_published_model_is_of_the_family_that_it_stands_for() -> None:
    assert sorted(model for some in MODELS.values() for model in some) == sorted(SIZES)
    classes = {one.name: one.pipeline_class for one in FAMILIES}
    for family, models in MODELS.items():
        assert {SIZES[model]["pipeline"] for model in models} == {classes[family]}


def test_a_dash_is_what_the_program_refuses() -> None:
    """Textual Inversion needs text encoders that can learn a word, which a family says itself."""
    needs = next(spec for spec in ADAPTERS if spec.name == "textual-inversion").needs
    for family in FAMILIES:
        assert bool(CELLS[family.name].get("Textual Inversion")) == (needs <= family.capabilities), family.name


@pytest.mark.slow
@pytest.mark.parametrize("model", SIZES)
def test_the_memory_of_a_published_model_is_what_arithmetic_says(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "memory", raising=False)
    benchmark: Any = importlib.import_module("memory")
    size = SIZES[model]
    assert benchmark.sizes_row(size, benchmark.measure_of(size, tmp_path / "model")) == memory_row(model)
