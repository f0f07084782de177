"""How steady a run is, and how many seeds a difference needs: on data whose variances are known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lookforward.report.steadiness import Components, components, deviations, seeds_needed, steadiness_section
from test_report_page import METHODS, cell_of, folder, quick, write_cell, write_photo, written

__all__ = ["folder", "quick"]


def measured(subjects: int, seeds: int, images: int, seed: float, image: float) -> pd.DataFrame:
    """Images of three prompts of different difficulty, with these deviations between seeds and between images."""
    rng, rows = np.random.default_rng(3), []
    for s in range(subjects):
        level = rng.normal(0.5, 0.2)
        for k in range(seeds):
            run = level + rng.normal(0, seed)
            for prompt, harder in enumerate((0.0, 0.3, -0.2)):
                values = run + harder + rng.normal(0, image, images)
                rows += [(f"s{s}", k, f"p{prompt}", value) for value in values]
    return pd.DataFrame(rows, columns=["subject", "seed", "prompt", "DINO"])


def test_deviations_are_those_that_the_data_has() -> None:
    found = deviations(measured(250, 6, 4, 0.05, 0.1), "DINO")
    assert found.images == pytest.approx(0.1 / math.sqrt(12), rel=0.03)
    assert found.seeds == pytest.approx(0.05, rel=0.06)
    steady = deviations(measured(300, 3, 4, 0.0, 0.1), "DINO")
    assert steady.seeds is not None
    assert steady.seeds < 0.01


def test_one_image_a_prompt_or_one_seed_cannot_tell() -> None:
    assert deviations(measured(4, 2, 1, 0.05, 0.1), "DINO") == (None, None)
    found = deviations(measured(4, 1, 3, 0.05, 0.1), "DINO")
    assert found.seeds is None
    assert found.images is not None
    assert deviations(measured(4, 2, 2, 0.05, 0.1), "identity") == (None, None)


def test_components_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    subject, run = rng.normal(0, 0.03, 400), rng.normal(0, 0.08, (400, 3))
    index = pd.MultiIndex.from_product([range(400), range(3)], names=["subject", "seed"])
    found = components(pd.Series((0.1 + subject[:, None] + run).ravel(), index=index))
    assert found is not None
    assert found.subjects == pytest.approx(0.03**2, rel=0.25)
    assert found.runs == pytest.approx(0.08**2, rel=0.06)
    assert found.size == 400
    assert components(pd.Series([0.1, 0.2], index=index[:2])) is None  # one subject
    assert components(pd.Series([0.1, 0.2], index=index[::3][:2])) is None  # one seed each


@pytest.mark.parametrize("runs", [0.05, 0.08])
def test_the_seeds_that_are_named_find_the_difference_four_times_in_five(runs: float) -> None:
    found = Components(0.01**2, runs**2, 20)
    needed = seeds_needed(found)
    assert needed is not None
    rng = np.random.default_rng(1)

    def share_found(seeds: int) -> float:
        deviation = math.sqrt(found.subjects + found.runs / seeds)
        means = rng.normal(0.02, deviation, (4000, found.size))
        _, p = stats.ttest_1samp(means, 0, axis=1)
        return float((np.asarray(p) < 0.05).mean())

    assert share_found(needed) > 0.78
    assert share_found(needed - 1) < 0.8


def test_no_seeds_help_where_subjects_differ_too_much() -> None:
    assert seeds_needed(Components(0.1**2, 0.05**2, 20)) is None
    assert seeds_needed(Components(0.0, 0.0, 20)) == 1


@pytest.mark.usefixtures("quick")
def test_the_page_shows_them(folder: Path) -> None:
    benchmark, page, markdown = written(folder)
    found = deviations(benchmark.images_of("best"), "DINO")
    assert found.images is not None
    shown = cell_of(page.tables["Deviation of one run: seeds; images"], "best", "DINO")
    assert shown == f"{found.seeds:.3f}; {found.images:.3f}"
    assert cell_of(page.tables["Seeds for a difference of 0.02"], "Look Forward", "DINO").startswith("> 100")
    assert "## Steadiness" in markdown


def test_one_seed_says_so(tmp_path: Path) -> None:
    write_photo(tmp_path, "vase-0", "vase")
    for method in METHODS:
        write_cell(tmp_path, "vase-0", method)
    benchmark, _, _ = written(tmp_path)
    (text,) = steadiness_section(benchmark).blocks
    assert "one seed" in text.text  # type: ignore[union-attr]
