"""Sheets, tables and intervals."""

import io

import numpy as np
import pytest
from rich.console import Console

from lookforward.report import (
    comparison_sheet,
    contact_sheet,
    interval,
    markdown_table,
    paired_interval,
    score_table,
)
from lookforward.report.statistics import _widened_tail

ROWS = {
    "untouched": {"DINO": (0.4, 0.03), "CLIP-T": (0.31, 0.01), "seconds": (0.0, None)},
    "DreamBooth": {"DINO": (0.5, 0.03), "CLIP-T": (0.3, float("nan")), "seconds": (61.234, None)},
    "look-forward": {"DINO": (0.6, 0.03), "CLIP-T": (0.29, 0.01), "seconds": (1071.5, None)},
}


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


def test_markdown_table() -> None:
    text = markdown_table(ROWS, baseline="DreamBooth", optimised={"look-forward": ["DINO"]})
    assert text.splitlines() == [
        "| | DINO | CLIP-T | seconds |",
        "|---|---:|---:|---:|",
        "| untouched | 0.400 ± 0.030 (−0.100) | **0.310 ± 0.010** (+0.010) | 0 |",
        "| DreamBooth | **0.500 ± 0.030** | 0.300 | 61.2 |",
        "| look-forward | 0.600 ± 0.030 † (+0.100) | 0.290 ± 0.010 (−0.010) | 1,072 |",
        "",
        "† trained on this very score, so no evidence for the method.",
    ]
    assert "†" not in markdown_table(ROWS)
    with pytest.raises(ValueError, match="baseline"):
        markdown_table(ROWS, baseline="Dreambooth")


def test_score_table_says_the_same_as_markdown() -> None:
    output = io.StringIO()
    Console(file=output, width=120).print(score_table(ROWS, "DreamBooth", {"look-forward": ["DINO"]}))
    for text in ("0.400 ± 0.030 (−0.100)", "0.600 ± 0.030 † (+0.100)", "61.2", "† trained on"):
        assert text in output.getvalue()


def test_nothing_is_bold_where_means_are_of_different_cells() -> None:
    def printed(**options: bool) -> str:
        output = io.StringIO()
        Console(file=output, width=120, force_terminal=True).print(score_table(ROWS, **options))
        return output.getvalue()

    bold = "\x1b[1m0.600"
    assert bold in printed()
    assert bold not in printed(bold=False)


def test_costs_have_a_table_of_their_own_where_there_are_many_columns() -> None:
    scores = dict.fromkeys(("DINO", "CLIP-I", "CLIP-T", "identity", "oracle"), (0.5, 0.031))
    costs = dict.fromkeys(("seconds", "memory, MiB", "parameters, k", "file, MiB"), (1234.0, None))
    output = io.StringIO()
    Console(file=output, width=120).print(score_table({"Look Forward": {**scores, **costs}, "best": {**scores}}))
    lines = [line for line in output.getvalue().splitlines() if "Look Forward" in line]
    assert ["0.500 ± 0.031" in line for line in lines] == [True, False]
    assert ["1,234" in line for line in lines] == [False, True]
    assert lines[0].count("0.500 ± 0.031") == 5  # none is broken into two lines


def test_what_is_no_number_is_never_the_best() -> None:
    for order in (("a", "b"), ("b", "a")):
        rows = {name: {"x": (float("nan") if name == "a" else 0.2, 0.1)} for name in order}
        assert "| b | **0.200 ± 0.100** |" in markdown_table(rows)
        assert "**nan" not in markdown_table(rows)


def test_names_are_shown_as_they_are() -> None:
    output = io.StringIO()
    Console(file=output, width=120).print(score_table({"my[v2]": {"x": (0.1, 0.1)}}))
    assert "my[v2]" in output.getvalue()


def test_missing_scores_are_dashes() -> None:
    assert "| b | – | 0.200 |" in markdown_table({"a": {"x": (0.1, np.nan)}, "b": {"y": (0.2, np.nan)}}, "a").replace(
        "**", ""
    )


@pytest.mark.parametrize(("subjects", "images"), [(2, 12), (3, 12), (5, 12), (6, 12), (30, 4)])
def test_interval_covers_the_truth_as_often_as_it_says(subjects: int, images: int) -> None:
    """Images of one subject share its difficulty, so that an interval over images would be far too narrow."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(subjects), images)
    trials, covered, narrow = 400, 0, 0
    for _ in range(trials):
        values = 0.6 + 0.1 * rng.standard_normal(subjects)[groups] + 0.05 * rng.standard_normal(len(groups))
        found = interval(values, groups, rng, n=1000)
        covered += found.low <= 0.6 <= found.high
        over_images = interval(values, None, rng, n=200)
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


def test_paired_interval_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(2)
    hard = rng.standard_normal(20)
    a, b = hard + 0.1 + 0.01 * rng.standard_normal(20), hard
    found = paired_interval(a, b, None, np.random.default_rng(3))
    assert 0.05 < found.low < found.mean < found.high < 0.15
    assert found.mean == pytest.approx((a - b).mean())
    with pytest.raises(ValueError, match="as many values"):
        paired_interval(a, b[:5], None, rng)


def test_tail_is_wider_for_few_subjects() -> None:
    # t_5(0.975) = 2.5706, sqrt(6/5) * 2.5706 = 2.8159, Φ(-2.8159) = 0.002432
    assert _widened_tail(6) == pytest.approx(0.00243, rel=0.02)
    assert _widened_tail(10_000) == pytest.approx(0.025, rel=0.01)
