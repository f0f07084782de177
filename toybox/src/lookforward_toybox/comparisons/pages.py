"""What `compare`, `demo` and `ablate` write of their cells: tables, sheets of images, and how the critics learned."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lookforward.benchmark.cell import Cell, read_strip
from lookforward.benchmark.dataframes import planned_benchmark, write_results
from lookforward.benchmark.datasets.values import photo_files, provide_photos
from lookforward.benchmark.plan import UNTOUCHED, Plan, cell_name, spread_prompts
from lookforward.core.benchmark_subject import BenchmarkSubject
from lookforward.data.prompts import fill
from lookforward.files import write_text, writing
from lookforward.provenance.origin import Origin
from lookforward.provenance.save import save_image
from lookforward.report.aggregate import over_subjects
from lookforward.report.blocks import Block, Section, Table, Text
from lookforward.report.curves import Line, curves
from lookforward.report.data import Benchmark
from lookforward.report.page_sections import cost_table, critic_table, differences_table, footnote, scores_table
from lookforward.report.render import markdown_page
from lookforward.report.sheet import comparison_sheet
from lookforward_toybox.comparisons.ablations import Ablation, method_of

SHEET_PROMPTS = 8
WATER = "floating on top of water"  # the prompt of Figure 6
_TERMS = {"critic_loss": "critic loss", "explained_variance": "explained variance", "reward": "reward"}


def comparison_tables(benchmark: Benchmark) -> Sequence[Block]:
    """What `compare` and `ablate` write: scores, differences from the baseline, critics and costs."""
    blocks: list[Block] = [scores_table(benchmark, "Scores")]
    if len(benchmark.cells.subject.unique()) > 1 and benchmark.baseline in benchmark.present:
        blocks.append(differences_table(benchmark, f"Difference from {benchmark.label(benchmark.baseline)}"))
    blocks += [critic_table(benchmark), cost_table(benchmark), *footnote(benchmark)]
    return [block for block in blocks if not isinstance(block, Table) or block.rows]


def write_comparison(cells: Sequence[Cell], plan: Plan, folder: Path) -> Sequence[Block]:
    """Write table.md, results.csv and sheet.png; returns the tables, for the terminal."""
    blocks = comparison_tables(planned_benchmark(plan, cells))
    _write(blocks, cells, plan, folder, {"sheet.png": method_sheet(plan, folder)})
    return blocks


def write_ablation(cells: Sequence[Cell], plan: Plan, ablation: Ablation, folder: Path) -> Sequence[Block]:
    """Write table.md, results.csv, sheet.png and curves.png; returns the tables, for the terminal."""
    baseline = method_of(ablation, ablation.baseline) if ablation.baseline in ablation.values else ""
    benchmark = planned_benchmark(plan, cells, baseline=baseline)
    blocks = [*comparison_tables(benchmark), *(Text(line) for line in reward_differences(cells, plan, baseline))]
    pictures: dict[str, Image.Image | Figure] = {"sheet.png": ablation_sheet(plan, ablation, folder)}
    if (figure := ablation_curves(benchmark, ablation)) is not None:
        pictures["curves.png"] = figure
    _write(blocks, cells, plan, folder, pictures)
    return blocks


def _write(
    blocks: Sequence[Block],
    cells: Sequence[Cell],
    plan: Plan,
    folder: Path,
    pictures: dict[str, Image.Image] | dict[str, Image.Image | Figure],
) -> None:
    write_text(folder / "table.md", markdown_page("", [Section("", blocks)], ""))
    write_results(plan, cells, folder, plan.model)
    with writing(folder):
        for name, picture in pictures.items():
            if isinstance(picture, Figure):
                picture.savefig(folder / name, dpi=110)
            else:
                save_image(picture, folder / name, Origin("sheet", "composite", model=plan.model))


def reward_differences(cells: Sequence[Cell], plan: Plan, baseline: str) -> list[str]:
    """Each method's reward over the last quarter against the baseline's, paired by subject and seed."""
    rows = [(*cell.key, cell.terms["reward"]) for cell in cells if baseline and "reward" in cell.terms]
    table = pd.DataFrame(rows, columns=["subject", "method", "seed", "reward"])
    rewards = table.pivot(index=["subject", "seed"], columns="method", values="reward")
    lines = []
    for method in [name for name in plan.methods if {name, baseline} <= set(rewards) and name != baseline]:
        apart = (rewards[method] - rewards[baseline]).dropna()
        found = over_subjects(apart)
        interval = (
            f"95% interval [{found.low:+.4g}, {found.high:+.4g}]" if found.known else "one subject, so no interval"
        )
        lines.append(
            f"Reward over the last quarter of the run, {plan.label(method)} minus {plan.label(baseline)}: "
            f"{found.mean:+.4g}, {interval}, {len(apart)} pairs of one subject and seed."
        )
    return lines


def ablation_curves(benchmark: Benchmark, ablation: Ablation) -> Figure | None:
    """Figure 5: critic loss, explained variance and reward against the step; None if none of them was logged.

    A line is the mean over subjects of the mean over seeds, its band the standard error over subjects: seeds of one
    subject are not independent. Rewards of different kinds have a panel each.
    """
    one_reward = len({str(values.get("objective.reward")) for values in ablation.values.values()}) == 1
    panels: dict[str, dict[str, Line]] = {}
    bands: dict[str, dict[str, Line]] = {}
    for label in ablation.values:
        method = method_of(ablation, label)
        for term, title in _TERMS.items():
            title = title if one_reward or term != "reward" else f"reward {label}"
            by_step = benchmark.curves_of(method, term).groupby(["step", "subject"]).value.mean().groupby("step")
            mean, error = by_step.mean(), by_step.sem()
            if len(mean):
                panels.setdefault(title, {})[label] = (list(mean.index), list(mean))
                if error.notna().all():
                    bands.setdefault(title, {})[label] = (list(mean - error), list(mean + error))
    if not panels:
        return None
    variance = _TERMS["explained_variance"]
    lowest = min((y for _, ys in panels.get(variance, {}).values() for y in ys), default=0.0)
    return curves(
        dict(sorted(panels.items(), key=lambda panel: panel[0].startswith("reward"))),
        "step",
        bands=bands,
        logarithmic=(_TERMS["critic_loss"],),
        limits={variance: (max(-1.0, min(0.0, lowest)) - 0.05, 1.05)},
        note=f"{ablation.name}: mean over {len(benchmark.subjects)} subjects × {len(benchmark.seeds)} seeds"
        + (" ± standard error over subjects" if bands else ""),
    )


def ablation_sheet(plan: Plan, ablation: Ablation, folder: Path) -> Image.Image:
    """One subject: a column per value, a row per prompt, some of them; the same noise along a row."""
    subject = ablation.shown if ablation.shown in plan.subjects else plan.subjects[0]
    prompts = plan.prompts_of(subject)
    water = [prompt for prompt in prompts if prompt.endswith(WATER)]
    return _sheet_of_subject(
        plan, subject, folder, tuple(dict.fromkeys([*water, *spread_prompts(prompts, SHEET_PROMPTS)]))[:SHEET_PROMPTS]
    )


def method_sheet(plan: Plan, folder: Path) -> Image.Image:
    """References and every method on the same prompts and seeds: all prompts of one subject, or one of each."""
    if len(plan.subjects) == 1:
        return _sheet_of_subject(plan, plan.subjects[0], folder, plan.prompts_of(plan.subjects[0]))
    photos = folder / "photos"
    columns = {"reference": [reference_images(plan.subject(name), photos, 1)[0] for name in plan.subjects]}
    rows = []
    for i, subject in enumerate(plan.subjects):
        prompts = plan.prompts_of(subject)
        prompt = prompts[i % len(prompts)]
        rows.append(_wording(plan, subject, prompt))
        for method in plan.methods:
            columns.setdefault(plan.label(method), []).append(_image(plan, folder, subject, method, prompt))
    note = f"Prompts in turn: nobody picked them. Seed {plan.seeds[0]}, every method from the same noise."
    return comparison_sheet(columns, rows, note=note)


def _sheet_of_subject(plan: Plan, subject: str, folder: Path, prompts: Sequence[str]) -> Image.Image:
    columns = {"references": reference_images(plan.subject(subject), folder / "photos", len(prompts) + 1)}
    for method in plan.methods:
        columns[plan.label(method)] = [_image(plan, folder, subject, method, prompt) for prompt in prompts]
    note = f"{subject}, seed {plan.seeds[0]}; a row is one prompt from the same noise."
    return comparison_sheet(columns, [_wording(plan, subject, prompt) for prompt in prompts], note=note)


def reference_images(subject: BenchmarkSubject, folder: Path, count: int) -> list[np.ndarray]:
    """The first photos of a subject as they are, (h, w, 3) uint8. folder: see `provide_photos`."""
    images = []
    for path in photo_files(provide_photos(subject, folder))[:count]:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")))
    return images


def _image(plan: Plan, folder: Path, subject: str, method: str, prompt: str) -> np.ndarray:
    """The first image of a prompt, (h, w, 3) uint8."""
    strip = read_strip(folder, cell_name((subject, method, plan.seeds[0])))
    return strip[plan.prompts_of(subject).index(prompt) * plan.images]


def _wording(plan: Plan, subject: str, prompt: str) -> str:
    """The prompt with the identifier that all methods use; without one if they differ."""
    subjects = [plan.settings(method).subject for method in plan.methods if method != UNTOUCHED]
    words = {subject.identifier if subject.noun_in_prompt else "" for subject in subjects}
    return fill(prompt, words.pop() if len(words) == 1 else "", plan.subject(subject).class_noun)
