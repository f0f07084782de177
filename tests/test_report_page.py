"""`lookforward report`: what the page says is what the cells hold, and nothing in it can be run or is loaded."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from errors import raises
from lookforward.benchmark.plan import prompt_kind
from lookforward.benchmark.reading import read_benchmark
from lookforward.cli import main
from lookforward.data.prompts import LIVE_PROMPTS, OBJECT_PROMPTS
from lookforward.report.aggregate import difference, estimate
from lookforward.report.blocks import Sheet
from lookforward.report.data import Benchmark
from lookforward.report.page_sections import CEILING
from lookforward.report.pictures import case_section, cases, prompts_in_turn, sheet_section, unseen_score
from lookforward.report.plots import _keep_near, curve_plots, fidelity_plots
from lookforward.report.render import data_uris, write_report
from lookforward.report.statistics import interval
from lookforward_toybox.models import MODELS

ROOT = Path(__file__).parents[1]
PROMPTS = (
    "a {identifier} {class_noun} in the jungle",
    "a {identifier} {class_noun} wearing a red hat",
    "a red {identifier} {class_noun}",
)
SCORES = ("DINO", "CLIP-I", "CLIP-T", "identity")
CRITIC = {"critic.name": "residual", "critic.weight": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "untouched": {},
    "dreambooth": {},
    "look-forward": {"objective.reward": "look-forward", **CRITIC},
    "best": {
        "objective.reward": "look-forward + dino",
        "critic.name": "none",
        "critic.weight": 0.3,
        "objective.reward_gradient": "direct",
    },
}
VOID = {"meta", "img", "br", "link", "input", "hr"}
EVIL = "<script>alert(1)</script>"
EVIL_NAME = '"><img src=x onerror=alert(2)>-0'


def write_cell(
    folder: Path,
    subject: str,
    method: str,
    seed: int = 0,
    *,
    prompts: Sequence[str] = PROMPTS,
    images: int = 2,
    scores: Mapping[str, Sequence[float]] | None = None,
    stem: str | None = None,
    drawn: bool = True,
    config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, list[float]]:
    rng = np.random.default_rng([*map(ord, subject + method), seed])
    count = len(prompts) * images
    values = {name: [round(float(x), 6) for x in rng.random(count)] for name in SCORES}
    values |= {name: list(numbers) for name, numbers in (scores or {}).items()}
    config = {"model.name": "toybox", "run.steps": 300, "run.seed": seed, **METHODS.get(method, {}), **(config or {})}
    curves = {"reward": [[10, -0.3], [20, -0.1]]}
    if config.get("critic.name") == "residual":
        curves |= {
            "critic_loss": [[10, 0.5 + seed], [20, 0.1]],
            "explained_variance": [[10, -99.0 if subject == "vase-0" else 0.6], [20, 0.9]],
        }
    cell = {
        "settings": {"config": config, "prompts": list(prompts), "images": images, **(settings or {})},
        "subject": subject, "method": method, "seed": seed, "scores": values, "seconds": 10.0 + seed,
        "memory": 1234.0, "terms": {}, "curves": curves, "parameters": 11_570_436, "size": 50.374,
        **({"provenance": dict(made)} if made else {}),
    }  # fmt: skip
    name = stem or f"{subject}.{method}.{seed}"
    for part in ("cells", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "cells" / f"{name}.json").write_text(json.dumps(cell))
    if drawn:
        strip = rng.integers(0, 255, (16 * count, 16, 3), dtype=np.uint8)
        Image.fromarray(strip).save(folder / "images" / f"{name}.png")
    return values


def write_photo(folder: Path, subject: str, noun: str) -> None:
    place = folder / "photos" / subject
    place.mkdir(parents=True)
    Image.new("RGB", (40, 30), (200, 30, 30)).save(place / "00.png")
    (place / "subject.json").write_text(json.dumps({"name": subject, "class_noun": noun}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two objects and a cat, every method, two seeds."""
    for subject, noun in (("cat-0", "cat"), ("vase-0", "vase"), ("toy-1", "toy")):
        write_photo(tmp_path, subject, noun)
        for method in METHODS:
            for seed in (0, 1):
                write_cell(tmp_path, subject, method, seed)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, which take most of the time."""
    for name in ("fidelity_plots", "curve_plots"):
        monkeypatch.setattr(f"lookforward.report.page_sections.{name}", lambda *_: [])


class Page(HTMLParser):
    """Tags in balance, what is loaded, tables by caption, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self._name = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "div" and dict(attrs).get("role") == "region":
            self._name = dict(attrs)["aria-label"] or ""
            self.tables[self._name] = []
        if tag == "tr":
            self.tables[self._name].append([])
        if tag in ("th", "td"):
            self.tables[self._name][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"th", "td"} & set(self.open):
            self.tables[self._name][-1][-1] += data


def written(folder: Path, **options: Any) -> tuple[Benchmark, Page, str]:
    benchmark = read_benchmark(folder, **options)
    page, text = write_report(benchmark, folder / "report.html", "lookforward test")
    return benchmark, Page(page.read_text(encoding="utf-8")), text.read_text(encoding="utf-8")


def cell_of(table: list[list[str]], row: str, column: str) -> str:
    return next(line for line in table if line[0] == row)[table[0].index(column)]


def by_hand(folder: Path, method: str, score: str, where: slice = slice(None)) -> dict[tuple[str, int], float]:
    found = {}
    for path in (folder / "cells").glob(f"*.{method}.*.json"):
        cell = json.loads(path.read_text())
        found[cell["subject"], cell["seed"]] = sum(cell["scores"][score][where]) / len(cell["scores"][score][where])
    return found


@pytest.mark.usefixtures("quick")
def test_figures_are_those_of_the_cells(folder: Path) -> None:
    _, page, markdown = written(folder)
    ours, base = by_hand(folder, "look-forward", "identity"), by_hand(folder, "dreambooth", "identity")
    mean = sum(ours.values()) / 6
    shown = cell_of(page.tables["Scores"], "Look Forward", "identity")
    assert shown.startswith(f"{mean:.3f} ± ")
    assert cell_of(page.tables["Scores"], "Look Forward", "cells") == "6"
    keys = sorted(ours)
    gains = np.array([ours[k] - base[k] for k in keys])
    low_high = interval(gains, np.array([k[0] for k in keys]), np.random.default_rng(0))
    change = 100 * gains.sum() / sum(base.values())
    wanted = f"{gains.mean():+.3f} [{low_high.low:+.3f}, {low_high.high:+.3f}], {change:+.1f}%".replace("-", "−")
    apart = page.tables["Difference from DreamBooth, with 95% intervals"]
    assert cell_of(apart, "Look Forward", "identity") == wanted
    assert wanted.replace("[", "\\[").replace("]", "\\]") in markdown
    assert shown in markdown


@pytest.mark.usefixtures("quick")
def test_breakdowns_hold_their_part_only(folder: Path) -> None:
    _, page, _ = written(folder)
    outfit = by_hand(folder, "dreambooth", "CLIP-T", slice(2, 4))  # the second of three prompts, two images each
    table = page.tables["Prompts that ask for an accessory"]
    assert cell_of(table, "DreamBooth", "CLIP-T").startswith(f"{sum(outfit.values()) / 6:.3f}")
    all_of = by_hand(folder, "dreambooth", "CLIP-T")
    cat = [value for (subject, _), value in all_of.items() if subject == "cat-0"]
    assert cell_of(page.tables["Live subjects"], "DreamBooth", "CLIP-T") == f"{np.mean(cat):.3f}"
    others = [value for (subject, _), value in all_of.items() if subject != "cat-0"]
    assert cell_of(page.tables["Objects"], "DreamBooth", "CLIP-T").startswith(f"{np.mean(others):.3f}")
    assert cell_of(page.tables["CLIP-T by subject"], "cat-0", "DreamBooth") == f"{np.mean(cat):.3f}"


@pytest.mark.usefixtures("quick")
def test_optimised_scores_are_marked_everywhere(folder: Path) -> None:
    for subject in ("cat-0", "vase-0", "toy-1"):  # so high that it would be the best
        for seed in (0, 1):
            write_cell(folder, subject, "best", seed, scores={"DINO": [0.99] * 6})
    benchmark, page, markdown = written(folder)
    assert benchmark.methods["best"].optimised == ("DINO",)
    assert cell_of(page.tables["Scores"], "best", "DINO") == "0.990 ± 0.000 †"
    assert "**0.990" not in markdown
    assert cell_of(page.tables["Difference from DreamBooth, with 95% intervals"], "best", "DINO").endswith(" †")
    assert "DINO †" in page.text
    assert "best †" in page.tables["DINO by subject"][0]
    assert "† The method's reward optimised this very score" in page.text
    assert not any("†" in cell for row in page.tables["Scores"] for cell in row[3:])
    assert unseen_score(benchmark, "best") == "identity"
    assert unseen_score(benchmark, "look-forward") == "DINO"
    svg = next(plot.svg for plot in fidelity_plots(benchmark) if plot.caption.startswith("DINO"))
    assert "best †" in svg
    assert "DreamBooth †" not in svg


@pytest.mark.usefixtures("quick")
def test_bold_needs_the_same_cells(folder: Path) -> None:
    assert "**0." in written(folder)[2]
    (folder / "cells" / "cat-0.look-forward.1.json").unlink()
    scores = written(folder)[2].split("**Scores**")[1].split("\n\n")[1]
    assert "**" not in scores


@pytest.mark.usefixtures("quick")
def test_missing_failed_and_broken_cells_are_listed(folder: Path) -> None:
    assert "Complete: all 24 cells are finished." in written(folder)[1].text
    (folder / "cells" / "cat-0.best.1.json").unlink()
    (folder / "cells" / "toy-1.look-forward.0.json").write_text('{"subject": ')
    (folder / "failed").mkdir()
    for subject in ("cat-0", "vase-0"):  # the second was finished when it was tried again
        failure = {"subject": subject, "method": "best", "seed": 1, "error": "ValueError", "message": "no <photo>"}
        (folder / "failed" / f"{subject}.best.1.json").write_text(json.dumps(failure))
    write_photo(folder, "bowl-0", "bowl")  # begun, and no cell finished
    benchmark, page, markdown = written(folder)
    assert len(benchmark.missing) == 2 + 8
    assert "Not complete: 10 of 32 cells are missing." in page.text
    missing = page.tables["Missing cells"]
    assert ["best", "1", "bowl-0, cat-0"] in missing
    assert ["Look Forward", "0", "bowl-0, toy-1"] in missing
    assert len(missing) == 1 + 4 * 2  # a row for each method and seed, below the head
    failed = {row[0]: row[1] for row in page.tables["Failed cells"][1:]}
    assert set(failed) == {"toy-1.look-forward.0.json", "cat-0, best, seed 1"}
    assert failed["cat-0, best, seed 1"] == "ValueError: no <photo>"
    assert "no &lt;photo&gt;" in markdown
    found = difference(benchmark, "best", "CLIP-I")
    assert found is not None
    assert found.pairs == 5


@pytest.mark.usefixtures("quick")
def test_a_seed_that_has_not_begun_is_one_word(folder: Path) -> None:
    for path in (folder / "cells").glob("*.best.1.json"):
        path.unlink()
    missing = written(folder)[1].tables["Missing cells"]
    assert missing[1:] == [["best", "1", "all 3"]]


@pytest.mark.usefixtures("quick")
def test_plan_of_the_benchmark_counts(folder: Path) -> None:
    plan = {
        "format": 1,
        "dataset": {"name": "toys", "kind": "dreambooth", "path": "", "notes": ["two are left out"]},
        "subjects": [
            {"name": "vase-0", "class_noun": "vase", "kind": "object", "photos": ["photos/vase-0/00.png"]},
            {"name": "gone-0", "class_noun": "bowl", "kind": "object", "photos": ["photos/gone-0/00.png"]},
        ],
        "methods": [{"name": "dreambooth", "label": "Plain", "recipe": "dreambooth", "adapter": "full"}],
        "prompt_kinds": {PROMPTS[0]: "place"},
        "seeds": [0, 1, 2],
        "versions": {"torch": "2.13.0"},
        "date": "2026-11-21T13:00:00+00:00",
    }
    (folder / "benchmark.json").write_text(json.dumps(plan))
    benchmark, page, _ = written(folder)
    assert benchmark.seeds == [0, 1, 2]
    assert ("gone-0", "dreambooth", 2) in benchmark.missing
    assert next(iter(benchmark.methods)) == "dreambooth"
    assert "Prompts that ask for place" in page.tables
    assert "toys; two are left out" in page.text
    assert "torch 2.13.0" in page.text
    assert "planned 2026-11-21 13:00" in page.text
    assert not benchmark.ceiling  # that of Toybox is not theirs
    (folder / "benchmark.json").write_text("{")
    with raises("description-unreadable", "benchmark.json"):
        read_benchmark(folder)


def test_names_and_prompts_do_nothing(tmp_path: Path) -> None:
    prompts = (f"a {{identifier}} {{class_noun}} {EVIL}", "a | b `c` [x](http://evil.example/y) {class_noun}")
    for i, method in enumerate(("dreambooth", "look-forward", EVIL, "_a$b$c [x](http://evil.example/y)")):
        for j, subject in enumerate((EVIL_NAME, "../../etc")):
            write_cell(tmp_path, subject, method, prompts=prompts, stem=f"cell-{i}-{j}")
    _, page, markdown = written(tmp_path, title=EVIL)
    assert EVIL in page.text
    assert EVIL_NAME in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {(a["src"] or "")[:16] for tag, a in page.tags if tag == "img"} == {"data:image/jpeg;"}
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "\\](http" in markdown
    assert not re.search(r"(?<!\\)\]\(http", markdown)
    widths = {
        len(re.split(r"(?<!\\)\|", line)) for line in markdown.split("**Scores**")[1].split("\n\n")[1].splitlines()
    }
    assert len(widths) == 1


def test_page_stands_alone(folder: Path) -> None:
    _, page, _ = written(folder)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert "://" not in html
    assert "@import" not in html
    assert len(html) < 8_000_000
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), (tag, attributes[name])
        if tag == "img":
            assert attributes["alt"]
    assert len([1 for _, a in page.tags if a.get("role") == "img" and a["aria-label"]]) == html.count("<svg") > 0
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {(a.get("href") or a.get("xlink:href") or "#")[1:] for _, a in page.tags} - {""}
    assert links <= set(ids)
    assert "prefers-color-scheme: dark" in html
    assert "currentColor" in html
    assert "#010203" not in html
    assert "mathdefault" not in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    written(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == html  # the same cells give the same page


@pytest.mark.parametrize("drawn", [True, False])
def test_one_subject_one_seed_no_critic(tmp_path: Path, drawn: bool) -> None:
    values = write_cell(tmp_path, "vase-0", "dreambooth", images=1, prompts=PROMPTS[:1], drawn=drawn)
    benchmark, page, _ = written(tmp_path)
    assert cell_of(page.tables["Scores"], "DreamBooth", "DINO") == f"{values['DINO'][0]:.3f}"
    assert "No method here has a critic" in page.text
    assert "nan" not in page.text.lower()
    assert len([1 for tag, _ in page.tags if tag == "img"]) == drawn
    assert benchmark.subjects["vase-0"].class_noun == "vase"
    assert not [name for name in page.tables if name.startswith("Difference")]
    assert "There is no other method to compare with DreamBooth." in page.text


@pytest.mark.usefixtures("quick")
def test_without_a_baseline_it_says_so(tmp_path: Path) -> None:
    write_cell(tmp_path, "vase-0", "look-forward")
    assert "There is no finished cell of dreambooth" in written(tmp_path)[1].text


@pytest.mark.usefixtures("quick")
def test_paper_and_ours_side_by_side(folder: Path) -> None:
    for subject in ("cat-0", "vase-0", "toy-1"):
        for seed in (0, 1):
            write_cell(folder, subject, "dreambooth", seed, scores={"CLIP-I": [0.5] * 6})
            write_cell(folder, subject, "look-forward", seed, scores={"CLIP-I": [0.525] * 6})
            custom = {"adapter.name": "custom-diffusion", **METHODS["look-forward"]}
            name = "look-forward@custom-diffusion"
            write_cell(folder, subject, name, seed, scores={"CLIP-I": [0.25] * 6}, config=custom)
    _, page, _ = written(folder)
    values = page.tables["Table 1 (DreamBooth benchmark): values"]
    assert cell_of(values, "DreamBooth w/ Look Forward", "paper DINO") == "0.738"
    assert cell_of(values, "DreamBooth w/ Look Forward", "ours CLIP-I") == "0.525"
    assert cell_of(values, "Custom Diffusion w/ Look Forward", "ours CLIP-I") == "0.250"
    assert cell_of(values, "DreamBooth w/ DINO reward", "ours CLIP-I") == "–"
    changes = page.tables["Table 1: change against the plain method"]
    row = next(line for line in changes if line[0] == "DreamBooth w/ Look Forward")
    assert row[1:4] == ["+6.3%", "+4.6%", "−4.6%"]  # as the paper's summary says it
    assert cell_of(changes, "DreamBooth w/ Look Forward", "ours CLIP-I") == "+5.0% [+5.0, +5.0]"
    assert cell_of(changes, "Custom Diffusion w/ Look Forward", "ours CLIP-I") == "–"  # no plain one to compare with
    assert "must not be compared" in page.text


def test_cases_are_the_extremes_of_all_pairs(folder: Path) -> None:
    write_cell(folder, "toy-1", "look-forward", 1, scores={"DINO": [0.5, 0.5, 0.5, 9.0, 0.5, 0.5]})
    write_cell(folder, "cat-0", "look-forward", 0, scores={"DINO": [-9.0, 0.5, 0.5, 0.5, 0.5, 0.5]})
    benchmark = read_benchmark(folder)
    found = cases(benchmark, "look-forward", "DINO")
    assert len(found) == 3 * 2 * 6
    assert found[["subject", "seed", "image"]].iloc[0].tolist() == ["toy-1", 1, 3]
    assert found[["subject", "seed", "image"]].iloc[-1].tolist() == ["cat-0", 0, 0]
    assert found.difference.is_monotonic_decreasing
    sheets = [block for block in case_section(benchmark).blocks if isinstance(block, Sheet)]
    first, last = sheets[0].rows[0], sheets[1].rows[0]
    assert first[0].startswith("toy-1, seed 1: a toy wearing a red hat (+")
    assert last[0].startswith("cat-0, seed 0: a cat in the jungle (−")
    (ours,) = first[1][2]
    strip = np.array(Image.open(folder / "images" / "toy-1.look-forward.1.png"))
    assert (ours.pixels == strip[3 * 16 : 4 * 16]).all()
    assert ours.note == "DINO 9.000"


def test_sheet_shows_the_same_prompt_of_every_method(folder: Path) -> None:
    sheet = next(
        b for b in sheet_section(read_benchmark(folder)).blocks if isinstance(b, Sheet) and "vase-0" in b.caption
    )
    assert list(sheet.columns) == ["references", "untouched model", "DreamBooth", "Look Forward", "best"]
    for name, row in sheet.rows:
        at = ["a vase in the jungle", "a vase wearing a red hat", "a red vase"].index(name)
        for method, (picture,) in zip(METHODS, row[1:], strict=True):
            strip = np.array(Image.open(folder / "images" / f"vase-0.{method}.0.png"))
            assert (picture.pixels == strip[at * 32 : at * 32 + 16]).all()


def test_prompts_take_turns() -> None:
    asked = {p: prompt_kind(p) for p in LIVE_PROMPTS}
    assert [list(asked.values()).count(kind) for kind in ("scene", "accessory", "property")] == [10, 10, 5]
    assert {prompt_kind(p) for p in OBJECT_PROMPTS} == {"scene", "property"}
    assert prompts_in_turn(asked, 0, 3) == [LIVE_PROMPTS[0], LIVE_PROMPTS[10], LIVE_PROMPTS[20]]
    assert prompts_in_turn(asked, 6, 3) == [LIVE_PROMPTS[6], LIVE_PROMPTS[16], LIVE_PROMPTS[21]]
    assert prompts_in_turn({"a": "scene"}, 5, 3) == ["a"]


def test_pictures_fit_their_budget() -> None:
    rng = np.random.default_rng(0)
    pictures = [(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8), i == 0) for i in range(6)]
    roomy, side = data_uris(pictures)
    assert side == 192
    tight, small = data_uris(pictures, budget=sum(map(len, roomy)) // 3)
    assert small < 192
    assert sum(map(len, tight)) <= sum(map(len, roomy)) // 3
    with pytest.raises(ValueError, match="do not fit"):
        data_uris(pictures, budget=100)


@pytest.mark.usefixtures("quick")
def test_memory_of_a_gpu_has_its_own_column(folder: Path) -> None:
    assert "GPU memory, MiB" not in written(folder)[1].tables["Cost of a cell"][0]
    write_cell(folder, "cat-0", "best", 0, made={"gpu_memory": 23456})
    cost = written(folder)[1].tables["Cost of a cell"]
    assert cell_of(cost, "best", "GPU memory, MiB") == "23,456"
    assert cell_of(cost, "DreamBooth", "GPU memory, MiB") == "–"
    assert cell_of(cost, "best", "memory, MiB") == "1,234"


@pytest.mark.usefixtures("quick")
def test_a_difference_is_marked_for_either_side(folder: Path) -> None:
    _, page, _ = written(folder, baseline="best")  # which was trained on DINO
    apart = page.tables["Difference from best, with 95% intervals"]
    assert cell_of(apart, "DreamBooth", "DINO").endswith(" †")
    assert not cell_of(apart, "DreamBooth", "identity").endswith(" †")
    assert "†" not in cell_of(page.tables["Scores"], "DreamBooth", "DINO")
    assert "Look Forward against best: DINO † " in page.text


@pytest.mark.usefixtures("quick")
def test_every_score_is_in_the_summary(folder: Path) -> None:
    for subject in ("cat-0", "vase-0", "toy-1"):
        for method in METHODS:
            for seed in (0, 1):
                write_cell(folder, subject, method, seed, scores={"oracle": [0.1 * len(method)] * 6})
    summary = next(
        line for line in written(folder)[2].splitlines() if line.startswith("Look Forward against DreamBooth")
    )
    for score in (*SCORES, "oracle"):
        assert f" {score} " in summary


@pytest.mark.usefixtures("quick")
def test_rewards_are_compared_within_their_adapter(folder: Path) -> None:
    for subject in ("cat-0", "vase-0", "toy-1"):
        for recipe, adapter, level in (("dreambooth", "lora", 0.25), ("best", "lora", 0.5), ("best", "neti", 0.5)):
            settings = {**METHODS[recipe], "adapter.name": adapter}
            scores = {name: [level] * 6 for name in SCORES}
            write_cell(folder, subject, f"{recipe}@{adapter}", 0, scores=scores, config=settings)
    _, page, _ = written(folder)
    table = page.tables["Difference from the plain method with the same adapter"]
    assert [row[0] for row in table[1:]] == ["best, LoRA"]
    assert cell_of(table, "best, LoRA", "pairs") == "3"
    assert cell_of(table, "best, LoRA", "CLIP-I") == "+0.250 [+0.250, +0.250], +100.0%"
    assert cell_of(table, "best, LoRA", "DINO").endswith(" †")
    assert "Without a finished plain method with the same adapter: best, NeTI." in page.text


def test_curves_are_medians_over_cells(folder: Path) -> None:
    benchmark, page, _ = written(folder)
    loss, variance, *_ = curve_plots(benchmark)
    assert loss.alt == "Look Forward: 1 at first, 0.1 at the end."  # seeds 0 and 1: 0.5 and 1.5
    assert variance.alt == "Look Forward: 0.6 at first, 0.9 at the end."
    table = page.tables["At the end, median over cells"]
    assert table[1:] == [["Look Forward", "6", "0.1", "0.900"]]
    assert cell_of(page.tables["Cost of a cell"], "Look Forward", "seconds, median") == "10.5"
    assert cell_of(page.tables["Cost of a cell"], "Look Forward", "parameters trained") == "11,570,436"


@pytest.mark.usefixtures("quick")
def test_ceiling_is_that_of_the_documentation(folder: Path) -> None:
    ceiling = MODELS["toybox-sd"].ceiling
    lines = (ROOT / "docs" / "toybox.md").read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| ceiling, live subjects"))
    names = [cell.strip() for cell in lines[at - 2].strip("|").split("|")][1:]
    for line, group in ((lines[at], "live subjects"), (lines[at + 1], "objects")):
        figures = [float(cell.split("±")[0]) for cell in line.strip("|").split("|")[1:]]
        assert dict(zip(names, figures, strict=True)) == ceiling[group]
    _, page, _ = written(folder)
    wanted = (ceiling["live subjects"]["DINO"] + 2 * ceiling["objects"]["DINO"]) / 3
    assert cell_of(page.tables["Scores"], CEILING, "DINO") == f"{wanted:.3f}"
    assert cell_of(page.tables["Prompts that ask for a scene"], CEILING, "DINO") == f"{wanted:.3f}"
    for kind in ("an accessory", "a property modification"):  # it is measured in scenes
        assert not [row for row in page.tables[f"Prompts that ask for {kind}"] if "ceiling" in row[0]]


@pytest.mark.usefixtures("quick")
def test_a_cell_with_a_score_that_is_no_number_is_broken(folder: Path) -> None:
    write_cell(folder, "cat-0", "dreambooth", 0, scores={"DINO": [float("nan")] * 5 + [0.5]})
    benchmark, page, _ = written(folder)
    ((name, why),) = [row for row in page.tables["Failed cells"] if row[0] == "cat-0.dreambooth.0.json"]
    assert why.endswith(f"{name} is damaged: it is not JSON (NaN is not a finite number).")
    assert cell_of(page.tables["Scores"], "DreamBooth", "cells") == "5"
    assert ("cat-0", "dreambooth", 0) in benchmark.missing
    assert estimate(benchmark.images_of("dreambooth"), "LPIPS") is None


def test_copies_and_parts_of_cells_are_not_counted(folder: Path) -> None:
    before = read_benchmark(folder)
    cells = folder / "cells"
    for copy in ("a copy.json", "cat-0.dreambooth.0 copy.json"):
        shutil.copy(cells / "cat-0.dreambooth.0.json", cells / copy)
    (cells / ".partial-cat-0.dreambooth.1.json").write_text("{")
    (folder / "photos" / ".partial-cat-0-77").mkdir()
    after = read_benchmark(folder)
    assert after.planned == before.planned
    assert after.images.equals(before.images)
    assert [p.where for p in after.problems] == ["a copy.json", "cat-0.dreambooth.0 copy.json"]
    assert all("cat-0.dreambooth.0.json is shown" in p.why for p in after.problems)


@pytest.mark.usefixtures("quick")
def test_a_folder_whose_name_is_no_text(folder: Path, tmp_path: Path) -> None:
    odd = tmp_path.parent / "caf\udce9"
    shutil.copytree(folder, odd)
    main(["report", str(odd)])
    assert "caf" in (odd / "report.md").read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.usefixtures("quick")
def test_command(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["report", str(folder), "--title", "A title"])
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    assert "<h1>A title</h1>" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "report.md").read_text(encoding="utf-8").startswith("# A title\n")
    main(["report", str(folder), "--output", str(tmp_path / "new" / "page.html"), "--baseline", "untouched"])
    assert "Difference from untouched model" in (tmp_path / "new" / "page.md").read_text(encoding="utf-8")
    for words in (["report", str(tmp_path / "none")], ["report", str(folder), "--output", "page.pdf"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2


def test_long_bars_do_not_squeeze_the_points() -> None:
    axis = Figure().subplots()
    points = [(0.6, 0.4), (0.7, 0.5)]
    for x, y in points:
        axis.errorbar(x, y, xerr=0.01, yerr=1.6)  # of two subjects
    wide = axis.get_xlim()
    assert _keep_near(axis, points)
    assert axis.get_xlim() == wide
    assert axis.get_ylim() == pytest.approx((0.3, 0.6))
    assert not _keep_near(axis, points)
    assert not _keep_near(axis, [])
