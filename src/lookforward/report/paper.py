"""Tables 1 and 2 of the paper (Wei et al., ECCV 2024, arXiv 2407.06642), and ours in their form."""

from lookforward.config.recipe import load_settings
from lookforward.config.settings import TOYBOX, Settings
from lookforward.report.blocks import Block, Section, Strong, Table, Text
from lookforward.report.data import Benchmark
from lookforward.report.numbers import MINUS, difference, estimate, per_cent, plain
from lookforward.rewards.terms import parse_terms

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
# Kind of data set to the table of its benchmark; Toybox mirrors the DreamBooth benchmark
_TABLES: dict[str, tuple[int, str, Figures]] = {
    "dreambooth": (1, "DreamBooth benchmark", TABLE_1),
    TOYBOX: (1, "DreamBooth benchmark", TABLE_1),
    "custom-concept": (2, "Custom Diffusion benchmark", TABLE_2),
}
PAPER_MODEL = "CompVis/stable-diffusion-v1-4"
# Recipe to its reward and the name of its rows
_REWARDS = {"dreambooth": ("", ""), "dino": ("dino", DINO_REWARD), "look-forward": ("look-forward", LOOK_FORWARD)}
_BASES = {"full": DREAMBOOTH, "custom-diffusion": CUSTOM}
_TOLD = (
    "critic.weight",
    "critic.bins",
    "optimizer.learning_rate",
    "run.steps",
    "data.resolution",
    "run.batch_size",
    "objective.prior_weight",
    "data.class_images",
)


def row_of(recipe: str, settings: Settings) -> str:
    """The row of the paper that a method stands for; "" where its settings make something else of the recipe.

    A row needs the recipe's own reward, and that reward through a critic that learns, beside noise reconstruction; the
    plain rows need no reward to be followed. Weights, rates and lengths may differ: `departures` tells them.
    """
    if (
        recipe not in _REWARDS
        or settings.adapter.name not in _BASES
        or settings.baseline.name != "none"
        or settings.objective.reconstruction_weight <= 0
    ):
        return ""
    reward, name = _REWARDS[recipe]
    if not reward:
        kept = settings.critic.weight == 0 or (
            settings.critic.name == "none" and settings.objective.reward_gradient == "critic"
        )
    else:
        learned = settings.critic.name != "none" and settings.critic.steps > 0 and settings.critic.weight > 0
        kept = learned and settings.objective.reward_gradient == "critic" and _only(settings.objective.reward) == reward
    return row(_BASES[settings.adapter.name], name) if kept else ""


def _only(reward: str) -> str:
    """The one reward of a sum with a single, positive term; "" for any other."""
    terms = [(weight, name) for weight, name in parse_terms(reward) if weight]
    return terms[0][1] if len(terms) == 1 and terms[0][0] > 0 else ""


def departures(recipe: str, settings: Settings) -> tuple[str, ...]:
    """Which settings of a method are not the paper's, such as "steps 300 (1000)", the paper's in brackets.

    The paper's are those of the recipe on Stable Diffusion; where the paper is silent, those of its released code, and
    of diffusers for Custom Diffusion. Its critic is not normalised, and its λ is taken as 1.
    """
    paper = load_settings(recipe, {"model.name": PAPER_MODEL, "adapter.name": settings.adapter.name}).flat()
    if _REWARDS[recipe][0]:
        paper |= {"critic.weight": 1.0, "critic.bins": 0}
    ours = settings.flat()
    told = [name for name in _TOLD if ours[name] != paper[name]]
    if not _REWARDS[recipe][0]:  # a plain method has no critic whose settings could matter
        told = [name for name in told if not name.startswith("critic.")]
    return tuple(f"{name} {_number(ours[name])} ({_number(paper[name])})" for name in told)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def paper_section(benchmark: Benchmark) -> Section:
    """The paper's table of this kind of data set, ours beside: values, then changes against the plain method."""
    if benchmark.kind not in _TABLES:
        words = "The data set is not known, so that neither of the paper's tables can be set beside these figures."
        return Section("The paper's tables", [Text(words)])
    number, where, figures = _TABLES[benchmark.kind]
    heads = [f"paper {s}" for s in SCORES] + [f"ours {s}" for s in SCORES]
    values = [[name, *_values(figures, name), *_ours(benchmark, name)] for name in figures]
    changes = [
        [name, *_changes(figures, name), *_our_changes(benchmark, name)]
        for name in figures
        if name not in (DREAMBOOTH, CUSTOM)
    ]
    blocks: list[Block] = [
        Text(f"{_whose(benchmark, number, where)} {_comparable(benchmark)}"),
        Table(f"Table {number} ({where}): values", ["", *heads], values),
        Table(f"Table {number}: change against the plain method", ["", *heads], changes),
    ]
    if any(method.optimised for method in benchmark.methods.values() if method.paper):
        words = "† trained on this very score, so no evidence for the method; true of the paper's DINO reward as well."
        blocks.append(Text(words))
    return Section("The paper's tables", [*blocks, *_departures(benchmark, number, figures)])


def _departures(benchmark: Benchmark, number: int, figures: Figures) -> list[Block]:
    filled = {name: benchmark.methods[m] for name in figures if (m := _method(benchmark, name)) is not None}
    rows = [[name, "; ".join(method.departs)] for name, method in filled.items() if method.departs]
    if rows:
        caption = f"Table {number}: settings of our rows that are not the paper's (its own in brackets)"
        return [Table(caption, ["row", "settings"], rows)]
    return [Text(f"In {', '.join(_TOLD)} our rows are as the paper's.")] if filled else []


def _whose(benchmark: Benchmark, number: int, where: str) -> str:
    return (
        f"The paper's figures (Table {number}) are of Stable Diffusion 1.4 at 512 pixels on the {where}; ours are of"
        f" {benchmark.model} on {benchmark.dataset}."
    )


def _comparable(benchmark: Benchmark) -> str:
    """Whether values may be set against the paper's, by what is known to differ."""
    toybox = benchmark.model == TOYBOX
    differ = [] if _is_papers(benchmark.model) else ["the model"]
    differ += ["the images"] if benchmark.kind == TOYBOX else []
    differ += ["the encoders"] if toybox or benchmark.encoders else []
    if differ:
        told = differ[0] if len(differ) == 1 else f"{', '.join(differ[:-1])} and {differ[-1]}"
        verb = "differs" if differ == ["the model"] else "differ"
        return (
            f"Values of the two must not be compared: {told} {verb}. Whether and"
            " how far a reward changes the plain method may be, and the table of changes does so."
        )
    count = len({r.subject for r in benchmark.results})
    whole = (
        "the DreamBooth data set has 30 subjects" if benchmark.kind == "dreambooth" else "the paper names no subjects"
    )
    return (
        f"The model is the paper's, and the encoders are of the kind that it names. Values may be compared where the"
        f" photos and prompts are its data set's too, unchanged and complete ({whole}, here are {count}), and as far as"
        " the settings below allow."
    )


def _is_papers(model: str) -> bool:
    return model.replace("\\", "/").rstrip("/").lower().endswith("stable-diffusion-v1-4")


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
        texts.append(per_cent(found.relative) + bounds + benchmark.mark(method, score, base))
    return texts


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", MINUS)


def _method(benchmark: Benchmark, name: str) -> str | None:
    """The method that stands for a row of the paper and has results."""
    return next((m.name for m in benchmark.methods.values() if m.paper == name and benchmark.of(m.name)), None)
