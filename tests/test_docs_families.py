"""docs/families.md says what is tested: every mark has tests that exist, and every dash has none."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from family_cells import CELLS, COLUMNS, FIT, MODELS, fit_test, marks
from lookforward.adapters import ADAPTERS
from lookforward.models.families import FAMILIES
from lookforward.models.meta import known_sizes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/families.md").read_text(encoding="utf-8")
SIZES = known_sizes()
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def rows(first: str) -> Iterator[list[str]]:
    """The cells of each row of the table whose first header is this, links without where they lead."""
    table = PAGE.split(f"\n| {first} |", 1)[1].split("\n\n", 1)[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in LINK.sub(r"\1", line).strip("|").split("|")]


def fits() -> dict[str, dict[str, str]]:
    """What the page says that `--fit` chooses, by published model and size."""
    labels = {size["label"]: name for name, size in SIZES.items()}
    return {labels[label]: dict(zip(FIT, cells, strict=True)) for label, *cells in rows("model")}


@pytest.fixture(scope="module")
def collected(request: pytest.FixtureRequest) -> set[str]:
    """The ids of all tests in the files that a mark names."""
    files = {one.partition("::")[0] for cells in CELLS.values() for tests in cells.values() for one in tests}
    files.add(fit_test("").partition("::")[0])
    found = set[str]()
    for file in sorted(files):
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
    for model in SIZES:
        assert fit_test(model) in collected


def test_the_page_has_the_marks_of_the_cells_and_nothing_else() -> None:
    expected = marks(fits())
    found = PAGE[PAGE.index("| family |") :].split("\n\n", 1)[0].splitlines()
    assert found == expected, "put these lines into docs/families.md:\n" + "\n".join(expected)


def test_every_published_model_has_a_family_and_a_row() -> None:
    assert sorted(model for some in MODELS.values() for model in some) == sorted(SIZES) == sorted(fits())
    for family, models in MODELS.items():
        classes = {one.name: one.pipeline_class for one in FAMILIES}
        assert {SIZES[model]["pipeline"] for model in models} == {classes[family]}


def test_a_dash_is_what_the_program_refuses() -> None:
    """Textual Inversion needs text encoders that can learn a word, which a family says itself."""
    needs = next(spec for spec in ADAPTERS if spec.name == "textual-inversion").needs
    for family in FAMILIES:
        assert bool(CELLS[family.name].get("Textual Inversion")) == (needs <= family.capabilities), family.name


@pytest.mark.slow
@pytest.mark.parametrize("model", SIZES)
def test_what_fit_chooses_for_a_published_model(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "memory", raising=False)
    import memory  # pyright: ignore[reportMissingImports]

    benchmark: Any = memory
    _, *cells = (
        benchmark.fit_row(SIZES[model], benchmark.measure_of(SIZES[model], tmp_path / "model")).strip("|").split("|")
    )
    assert dict(zip(FIT, (cell.strip() for cell in cells), strict=True)) == fits()[model]
