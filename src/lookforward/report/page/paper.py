"""Tables 1 and 2 of the paper (Wei et al., ECCV 2024, arXiv 2407.06642), and ours in their form."""

from lookforward.report.page.blocks import Block, Section, Strong, Table, Text
from lookforward.report.page.data import Benchmark
from lookforward.report.page.numbers import MINUS, difference, estimate, per_cent, plain

SCORES = ("DINO", "CLIP-I", "CLIP-T")
DREAMBOOTH, CUSTOM = "DreamBooth", "Custom Diffusion"
DINO_REWARD, LOOK_FORWARD = "w/ DINO reward", "w/ Look Forward"


def row(base: str, reward: str = "") -> str:
    """The name of a row of the paper's tables."""
    return f"{base} {reward}".strip()


TABLE_1 = {
    row(CUSTOM): (0.649, 0.712, 0.321),
    row(CUSTOM, DINO_REWARD): (0.640, 0.715, 0.320),
    row(CUSTOM, LOOK_FORWARD): (0.669, 0.728, 0.322),
    row(DREAMBOOTH): (0.694, 0.762, 0.282),
    row(DREAMBOOTH, DINO_REWARD): (0.723, 0.783, 0.270),
    row(DREAMBOOTH, LOOK_FORWARD): (0.738, 0.797, 0.269),
}
TABLE_2 = {
    row(DREAMBOOTH): (0.640, 0.737, 0.309),
    row(DREAMBOOTH, DINO_REWARD): (0.653, 0.753, 0.310),
    row(DREAMBOOTH, LOOK_FORWARD): (0.680, 0.773, 0.303),
}
Figures = dict[str, tuple[float, float, float]]


def paper_section(benchmark: Benchmark) -> Section:
    """The paper's tables with ours beside, values first and then changes against the plain method."""
    blocks: list[Block] = [
        Text(
            "The paper's figures are of Stable Diffusion 1.4 at 512 pixels on the DreamBooth benchmark (Table 1) and on"
            f" the Custom Diffusion benchmark (Table 2). Ours are of {benchmark.model} on {benchmark.dataset}, in both"
            " tables. Values of the two must not be compared: the model, the images and the encoders differ."
            " Differences between methods may be, and the tables of changes do so."
        )
    ]
    for number, where, figures in (
        (1, "DreamBooth benchmark", TABLE_1),
        (2, "Custom Diffusion benchmark", TABLE_2),
    ):
        heads = [f"paper {s}" for s in SCORES] + [f"ours {s}" for s in SCORES]
        values = [[name, *_values(figures, name), *_ours(benchmark, name)] for name in figures]
        blocks.append(Table(f"Table {number} ({where}): values", ["", *heads], values))
        changes = [
            [name, *_changes(figures, name), *_our_changes(benchmark, name)]
            for name in figures
            if name not in (DREAMBOOTH, CUSTOM)
        ]
        blocks.append(Table(f"Table {number}: change against the plain method", ["", *heads], changes))
    if any(method.optimised for method in benchmark.methods.values() if method.paper):
        blocks.append(
            Text(
                "† trained on this very score, so no evidence for the method; true of the paper's DINO reward as well."
            )
        )
    return Section("The paper's tables", blocks)


def _values(figures: Figures, name: str) -> list[str | Strong]:
    base = DREAMBOOTH if name.startswith(DREAMBOOTH) else CUSTOM
    top = [max(v[i] for n, v in figures.items() if n.startswith(base)) for i in range(3)]
    mark = [" †" if name.endswith(DINO_REWARD) and i == 0 else "" for i in range(3)]
    texts = [f"{value:.3f}{sign}" for value, sign in zip(figures[name], mark, strict=True)]
    return [Strong(t) if v == best else t for t, v, best in zip(texts, figures[name], top, strict=True)]


def _changes(figures: Figures, name: str) -> list[str]:
    base = figures[DREAMBOOTH if name.startswith(DREAMBOOTH) else CUSTOM]
    mark = [" †" if name.endswith(DINO_REWARD) and i == 0 else "" for i in range(3)]
    return [per_cent(v / b - 1) + sign for v, b, sign in zip(figures[name], base, mark, strict=True)]


def _ours(benchmark: Benchmark, name: str) -> list[str]:
    method = _method(benchmark, name)
    if method is None:
        return ["–"] * 3
    found = [estimate(benchmark.of(method), score) for score in SCORES]
    return ["–" if f is None else plain(f.mean) + benchmark.mark(method, s) for f, s in zip(found, SCORES, strict=True)]


def _our_changes(benchmark: Benchmark, name: str) -> list[str]:
    """In per cent of the plain method of the same kind, with the interval where it can be known."""
    method, base = _method(benchmark, name), _method(benchmark, DREAMBOOTH if name.startswith(DREAMBOOTH) else CUSTOM)
    if method is None or base is None:
        return ["–"] * 3
    texts = []
    for score in SCORES:
        found = difference(benchmark, method, score, baseline=base)
        if found is None or found.relative is None:
            texts.append("–")
            continue
        low, high = found.interval.low / found.level, found.interval.high / found.level
        bounds = "" if low != low else f" [{_points(low)}, {_points(high)}]"
        texts.append(per_cent(found.relative) + bounds + benchmark.mark(method, score))
    return texts


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", MINUS)


def _method(benchmark: Benchmark, name: str) -> str | None:
    """The method that stands for a row of the paper and has results."""
    return next((m.name for m in benchmark.methods.values() if m.paper == name and benchmark.of(m.name)), None)
