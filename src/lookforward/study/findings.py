"""From answers to the tables of a report, and to a table of all of them."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lookforward.report.blocks import Block, Section, Table, Text
from lookforward.report.statistics import Interval
from lookforward.study.statistics import (
    OUTCOMES,
    Answers,
    bradley_terry,
    every_two,
    failed_repeats,
    fleiss_kappa,
    shares,
)
from lookforward.study.store import StudyPlan

QUESTIONS = {"subject_choice": "Keeps the subject better", "prompt_choice": "Follows the prompt better"}
# Table 3 of the paper: its method, DreamBooth, similar; in percent
PAPER = {"subject_choice": (55.1, 12.0, 32.9), "prompt_choice": (19.6, 20.4, 60.0)}
Row = Mapping[str, Any]


def study_sections(plan: StudyPlan, answers: Sequence[Row]) -> list[Section]:
    """Everything that a study found. answers: as `Raters.answers` gives them."""
    unreliable = unreliable_raters(answers)
    counted = [row for row in answers if row["rater"] not in unreliable]
    first = [row for row in counted if not row["repeated"]]
    blocks: list[Block] = [Text(_about(plan, first, unreliable))]
    if not first:
        blocks.append(Text("There are no answers to count yet.", warning=True))
        return [Section("Study", blocks)]
    for question, title in QUESTIONS.items():
        blocks.append(_share_table(plan.methods, first, question, title))
    blocks.append(Text(_agreement(first)))
    if len(plan.methods) > 2:
        blocks.append(_strength_table(plan.methods, first))
    raters = Section("Raters", [_rater_table(answers, unreliable)])
    return [Section("Study", blocks), raters]


def answers_csv(answers: Sequence[Row]) -> str:
    """Every single answer as CSV. answers: as `Raters.answers` gives them."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(answers[0]) if answers else ["rater"])
    table.writeheader()
    table.writerows(answers)
    return text.getvalue()


def unreliable_raters(answers: Sequence[Row]) -> set[int]:
    """Raters who contradict themselves on repeated pairs; see `failed_repeats`."""
    return {rater for rater in {row["rater"] for row in answers} if failed_repeats(_same(answers, rater))}


def _same(answers: Sequence[Row], rater: int) -> list[bool]:
    """For each repeated answer of a rater, whether it is the one given before."""
    own = [row for row in answers if row["rater"] == rater]
    before = {row["pair"]: row for row in own if not row["repeated"]}
    return [
        row[question] == before[row["pair"]][question]
        for row in own
        if row["repeated"] and row["pair"] in before
        for question in QUESTIONS
    ]


def _about(plan: StudyPlan, counted: Sequence[Row], unreliable: set[int]) -> str:
    raters, pairs = {row["rater"] for row in counted}, {row["pair"] for row in counted}
    picked = f"the best by CLIP-T of {plan.candidates}" if plan.candidates > 1 else "the first image drawn"
    text = (
        f"Answers: {len(counted)}, raters: {len(raters)}, pairs of images: {len(pairs)}, subjects: "
        f"{len(plan.prompts)}. Of each method and prompt raters saw {picked}, from the same noise. Sides were random."
    )
    if unreliable:
        text += f" Raters who contradicted themselves on repeated pairs and are not counted: {len(unreliable)}."
    return text


def _answers(rows: Sequence[Row], question: str) -> Answers:
    return Answers(
        np.array([row["rater"] for row in rows]),
        np.array([row["pair"] for row in rows]),
        np.array([OUTCOMES.index(row[question]) for row in rows]),
    )


def _between(rows: Sequence[Row], first: str, second: str) -> list[Row]:
    return [row for row in rows if (row["first"], row["second"]) == (first, second)]


def _share_table(methods: Sequence[str], rows: Sequence[Row], question: str, title: str) -> Table:
    body = []
    for first, second in every_two(methods):
        some = _between(rows, first, second)
        if some:
            found = shares(_answers(some, question), np.random.default_rng(0))
            body.append([f"{first} or {second}", *map(percent, found), str(len(some))])
    ours, baseline, similar = PAPER[question]
    body.append(["paper: its method or DreamBooth", f"{ours}%", f"{baseline}%", f"{similar}%", ""])
    return Table(
        f"{title}: share of answers with 95% intervals over raters and pairs",
        ("methods", "first preferred", "second preferred", "similar", "answers"),
        body,
    )


def percent(share: Interval) -> str:
    """ "55.1% [50.2, 60.0]"; without limits where they are unknown."""
    limits = f" [{100 * share.low:.1f}, {100 * share.high:.1f}]" if share.known else ""
    return f"{100 * share.mean:.1f}%{limits}"


def _agreement(rows: Sequence[Row]) -> str:
    parts = []
    for question, title in QUESTIONS.items():
        kappa = fleiss_kappa(_answers(rows, question).counts().sum(axis=0))
        parts.append(f"{title.lower()}: {'unknown' if np.isnan(kappa) else f'{kappa:.2f}'}")
    return f"Agreement between raters (Fleiss' κ, 1 is perfect, 0 is chance): {'; '.join(parts)}."


def _strength_table(methods: Sequence[str], rows: Sequence[Row]) -> Table:
    strengths = [bradley_terry(win_counts(methods, rows, question)) for question in QUESTIONS]
    order = np.argsort(-strengths[0], kind="stable")
    body = [[str(methods[i])] + [f"{one[i]:+.2f}" for one in strengths] for i in map(int, order)]
    return Table(
        "Strength by the Bradley–Terry model: a difference of 1 is odds of 2.7 to 1; the mean is 0",
        ("method", *QUESTIONS.values()),
        body,
    )


def win_counts(methods: Sequence[str], rows: Sequence[Row], question: str) -> np.ndarray:
    """(m, m): how often the row's method was preferred to the column's; "similar" is half for both."""
    place = {method: i for i, method in enumerate(methods)}
    wins = np.zeros((len(methods), len(methods)))
    for row in rows:
        i, j = place[row["first"]], place[row["second"]]
        share = {"first": 1.0, "second": 0.0, "similar": 0.5}[row[question]]
        wins[i, j] += share
        wins[j, i] += 1 - share
    return wins


def _rater_table(answers: Sequence[Row], unreliable: set[int]) -> Table:
    rows: list[list[str]] = []
    for rater in sorted({row["rater"] for row in answers}):
        same = _same(answers, rater)
        own = sum(row["rater"] == rater and not row["repeated"] for row in answers)
        agreed = f"{sum(same)} of {len(same)}" if same else "none asked"
        rows.append([f"rater {rater}", str(own), agreed, "not counted" if rater in unreliable else "counted"])
    return Table("Raters and their repeated answers", ("rater", "pairs", "repeats answered alike", ""), rows)
