"""What a judge behind an endpoint rated, and what it did not rate."""

from collections import Counter

from lookforward.report.aggregate import estimate, plain, with_half_width
from lookforward.report.blocks import Block, Section, Table, Text
from lookforward.report.data import Benchmark

_LONG = 12  # rows from which a table is folded


def judge_section(benchmark: Benchmark) -> Section | None:
    """The ratings of each method, their product, and every missing rating; None if nobody rated."""
    judge = benchmark.judge
    if judge is None:
        return None
    text = (
        f"{judge.model} at {judge.endpoint} rated each image from 0 to {judge.highest}. Scores here and in the other"
        f" tables are the rating / {judge.highest}, as DreamBench++ gives them. The product is that of the two means. A"
        " missing rating was asked for and not given; means leave it out."
    )
    lost = Counter(method for method, *_ in judge.missing)
    rows = []
    for name in benchmark.present:
        images = benchmark.images_of(name)
        found = [estimate(images, score) for score in judge.scores]
        whole = [one.mean for one in found if one is not None]
        product = whole[0] * whole[1] if len(whole) == len(judge.scores) == 2 else None
        rated = int(images[list(judge.scores)].notna().sum().sum())
        rows.append([
            benchmark.label(name), f"{rated:,}", f"{lost[name]:,}", *map(with_half_width, found), plain(product),
        ])  # fmt: skip
    blocks: list[Block] = [Text(text)]
    blocks.append(Table("Ratings", ["method", "ratings", "missing", *judge.scores, "product"], rows))
    if judge.missing:
        listed = [[where, question, why] for _, where, question, why in judge.missing]
        blocks.append(Table("Missing ratings", ["image", "question", "why"], listed, folded=len(listed) > _LONG))
    return Section("Ratings by a judge", blocks)
