"""Sheets, tables and intervals."""

import io

import numpy as np
import pytest
from rich.console import Console

from lookforward.report import comparison_sheet, contact_sheet, interval
from lookforward.report.blocks import Section, Strong, Table
from lookforward.report.render import markdown_page, terminal_table
from lookforward.report.statistics import widened_tail


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (*size, 3))


def test_comparison_sheet_shows_every_picture() -> None:
    methods = {"Untouched": (250, 0, 0), "DreamBooth": (0, 250, 0), "Look Forward": (0, 0, 250)}
    columns = {"References": [plain((90, 40 * i, 90)) for i in range(5)]}
    columns |= {label: [plain(colour)] * 2 for label, colour in methods.items()}
    sheet = comparison_sheet(columns, ["a dog on the beach", "a dog in the snow"], title="t", note="n")
    pixels = np.array(sheet)
    for colour in methods.values():
        assert (pixels == colour).all(axis=-1).sum() == 2 * 128 * 128
    shown = [(pixels == (90, 40 * i, 90)).all(axis=-1).sum() for i in range(5)]
    assert min(shown) == max(shown) > 50 * 50
    assert (pixels[:10] == 255).all()  # the margin


def test_comparison_sheet_names_a_wrong_count() -> None:
    columns = {"References": [plain((1, 1, 1))], "DreamBooth": [plain((1, 1, 1))]}
    with pytest.raises(ValueError, match="2 prompts"):
        comparison_sheet(columns, ["a", "b"])
    with pytest.raises(ValueError, match="0 prompts"):
        comparison_sheet(columns, [])


def test_sheets_keep_proportions_and_stand_any_text() -> None:
    label = "Donaudampfschifffahrtsgesellschaftskapitän " * 3
    wide = plain((0, 120, 0), (30, 60))
    sheet = comparison_sheet({label: [wide]}, [label], cell=64)
    assert (np.array(sheet) == (0, 120, 0)).all(axis=-1).sum() == 64 * 32
    sheet = contact_sheet([wide] * 5, [label] * 5, columns=3, cell=64)
    assert (np.array(sheet) == (0, 120, 0)).all(axis=-1).sum() == 5 * 64 * 32
    assert contact_sheet([wide], columns=3).width < 200
    with pytest.raises(ValueError, match="label for each"):
        contact_sheet([wide], ["a", "b"])


def shown(method: str, text: str) -> Table:
    return Table("A [caption]", ["method", "DINO"], [[method, Strong(text)], ["b", "–"]])


def test_a_table_is_the_same_in_markdown_and_in_a_terminal() -> None:
    table = shown("my[v2]", "0.600 ± 0.030 †")
    markdown = markdown_page("", [Section("", [table])], "")
    assert markdown.splitlines() == [
        "**A \\[caption\\]**", "", "| method | DINO |", "|---|---:|",
        "| my\\[v2\\] | **0.600 ± 0.030 †** |", "| b | – |",
    ]  # fmt: skip
    output = io.StringIO()
    Console(file=output, width=120, force_terminal=True).print(terminal_table(table))
    for text in ("A [caption]", "my[v2]", "\x1b[1m0.600 ± 0.030 †"):
        assert text in output.getvalue()


@pytest.mark.parametrize(("subjects", "images"), [(2, 12), (3, 12), (5, 12), (6, 12), (30, 4)])
def test_interval_covers_the_truth_as_often_as_it_says(subjects: int, images: int) -> None:
    """Images of one subject share its difficulty, so that an interval over images would be far too narrow."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(subjects), images)
    trials, covered, narrow = 400, 0, 0
    for _ in range(trials):
        values = 0.6 + 0.1 * rng.standard_normal(subjects)[groups] + 0.05 * rng.standard_normal(len(groups))
        found = interval(values, groups, rng, resamples=1000)
        covered += found.low <= 0.6 <= found.high
        over_images = interval(values, None, rng, resamples=200)
        narrow += over_images.low <= 0.6 <= over_images.high
    assert 0.91 <= covered / trials <= 0.985
    assert narrow < covered - 0.1 * trials


def test_interval_of_few_subjects_is_students() -> None:
    found = interval(np.array([0.01, 0.2, 0.1]), None)  # s = 0.09504, t_2(0.975) = 4.3027
    assert found.half_width == pytest.approx(4.3027 * 0.095044 / 3**0.5, rel=1e-4)
    assert found.low < 0 < found.high


def test_the_same_values_have_the_same_interval_whatever_else_is_asked() -> None:
    values = np.arange(8.0)
    first = interval(values, None)
    interval(values[::-1] ** 2, None)
    assert interval(values, None) == first


def test_interval_is_reproducible_and_weighs_subjects_alike() -> None:
    values, groups = np.array([0.0, 0.0, 0.0, 1.0]), np.array(["a", "a", "a", "b"])
    first = interval(values, groups, np.random.default_rng(1))
    assert first == interval(values, groups, np.random.default_rng(1))
    assert first.mean == 0.5
    assert first.half_width == pytest.approx((first.high - first.low) / 2)
    alone = interval(values[:3], groups[:3], np.random.default_rng(1))
    assert alone.mean == 0
    assert np.isnan([alone.low, alone.high, alone.half_width]).all()
    with pytest.raises(ValueError, match="values"):
        interval(np.array([]), None, np.random.default_rng(1))


def test_tail_is_wider_for_few_subjects() -> None:
    # t_5(0.975) = 2.5706, sqrt(6/5) * 2.5706 = 2.8159, Φ(-2.8159) = 0.002432
    assert widened_tail(6) == pytest.approx(0.00243, rel=0.02)
    assert widened_tail(10_000) == pytest.approx(0.025, rel=0.01)
