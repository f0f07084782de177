"""Tables 1 and 2 of the paper (Wei et al., ECCV 2024, arXiv 2407.06642), and ours in their form."""

from lookforward.bundle import BUNDLED, TOYBOX
from lookforward.config.recipe import load_settings
from lookforward.config.settings import Settings
from lookforward.models.families import PAPER_MODEL
from lookforward.report.aggregate import difference, estimate, percent, plain
from lookforward.report.blocks import Block, Section, Strong, Table, Text
from lookforward.report.data import Benchmark
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
# Recipe to its reward and the name of its rows
_REWARDS = {"dreambooth": ("", ""), "dino": ("dino", DINO_REWARD), "look-forward": ("look-forward", LOOK_FORWARD)}
_BASES = {"full": DREAMBOOTH, "custom-diffusion": CUSTOM}
_LISTED = (
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
    """The row of the paper that a method fills; "" if its settings make another method of the recipe.

    A row needs the recipe's own reward, and that reward through a critic that learns, beside noise reconstruction; the
    plain rows must follow no reward. Weights, rates and lengths may differ: `departures` lists them.
    """
    critic, objective, adapter = settings.critic, settings.objective, settings.adapter.name
    plain_loss = settings.baseline.name == "none" and objective.reconstruction_weight > 0
    if recipe not in _REWARDS or adapter not in _BASES or not plain_loss:
        return ""
    reward, name = _REWARDS[recipe]
    if not reward:
        kept = critic.weight == 0 or (critic.name == "none" and objective.reward_gradient == "critic")
    else:
        learned = critic.name != "none" and critic.steps > 0 and critic.weight > 0
        kept = learned and objective.reward_gradient == "critic" and _only(objective.reward) == reward
    return row(_BASES[adapter], name) if kept else ""


def _only(reward: str) -> str:
    """The one reward of a sum with a single, positive term; "" for any other."""
    terms = [(weight, name) for weight, name in parse_terms(reward) if weight]
    return terms[0][1] if len(terms) == 1 and terms[0][0] > 0 else ""


def departures(recipe: str, settings: Settings) -> tuple[str, ...]:
    """Which settings of a method are not the paper's, such as "steps 300 (1000)", the paper's in brackets.

    The paper's are those of the recipe on Stable Diffusion. Where the paper gives none, they are those of its released
    code, and for Custom Diffusion those of diffusers. Its critic is not normalised, and its λ is taken as 1.
    """
    paper = load_settings(recipe, {"model.name": PAPER_MODEL, "adapter.name": settings.adapter.name}).flat()
    if _REWARDS[recipe][0]:
        paper |= {"critic.weight": 1.0, "critic.bins": 0}
    ours = settings.flat()
    differing = [name for name in _LISTED if ours[name] != paper[name]]
    if not _REWARDS[recipe][0]:  # a plain method has no critic whose settings could matter
        differing = [name for name in differing if not name.startswith("critic.")]
    return tuple(f"{name} {_number(ours[name])} ({_number(paper[name])})" for name in differing)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def paper_section(benchmark: Benchmark) -> Section:
    """The paper's table for this kind of data set with ours beside it: values, then changes by the rewards."""
    if benchmark.kind not in _TABLES:
        unknown = "The data set is not known, so the page shows neither of the paper's tables."
        text = f"The paper has no table of {benchmark.kind}." if benchmark.kind else unknown
        return Section("The paper's tables", [Text(text)])
    number, where, figures = _TABLES[benchmark.kind]
    columns = ["", *(f"paper {s}" for s in SCORES), *(f"ours {s}" for s in SCORES)]
    rewarded = [name for name in figures if name not in (DREAMBOOTH, CUSTOM)]
    values = [[name, *_values(figures, name), *_our_values(benchmark, name)] for name in figures]
    changes = [[name, *_changes(figures, name), *_our_changes(benchmark, name)] for name in rewarded]
    blocks: list[Block] = [
        Text(
            f"The paper's values (Table {number}) are of Stable Diffusion 1.4 at 512 pixels on the {where}; ours are of"
            f" {benchmark.model} on {benchmark.dataset}. {_comparable(benchmark)}"
        ),
        Table(f"Table {number} ({where}): values", columns, values),
        Table(f"Table {number}: change against the plain method", columns, changes),
    ]
    if any(method.optimised for method in benchmark.methods.values() if method.paper):
        text = "† The reward optimised this very score, so it is no evidence. So did the paper's DINO reward."
        blocks.append(Text(text))
    return Section("The paper's tables", [*blocks, *_departures(benchmark, number, figures)])


def _departures(benchmark: Benchmark, number: int, figures: Figures) -> list[Block]:
    filled = {name: benchmark.methods[m] for name in figures if (m := _method(benchmark, name)) is not None}
    rows = [[name, "; ".join(method.departs)] for name, method in filled.items() if method.departs]
    if rows:
        caption = f"Table {number}: settings of our rows that differ from the paper's (its own in brackets)"
        return [Table(caption, ["row", "settings"], rows)]
    return [Text(f"In {', '.join(_LISTED)} our rows are as the paper's.")] if filled else []


def _comparable(benchmark: Benchmark) -> str:
    """Whether values may be compared with the paper's, by what is known to differ."""
    model = benchmark.model.replace("\\", "/").rstrip("/").lower()
    differ = [] if model.endswith("stable-diffusion-v1-4") else ["the model"]
    differ += ["the images"] if benchmark.kind == TOYBOX else []
    differ += ["the encoders"] if benchmark.model in BUNDLED or benchmark.encoders else []
    if differ:
        names = differ[0] if len(differ) == 1 else f"{', '.join(differ[:-1])} and {differ[-1]}"
        verb = "differs" if differ == ["the model"] else "differ"
        return (
            f"The two must not be compared by value: {names} {verb}. Whether and how far a reward changes the plain"
            " method may be compared, which the table of changes does."
        )
    count = benchmark.cells.subject.nunique()
    whole = (
        "the DreamBooth data set has 30 subjects" if benchmark.kind == "dreambooth" else "the paper names no subjects"
    )
    return (
        "The model is the paper's, and the encoders are of the kind it names. Values may be compared if the photos and"
        f" prompts are those of its data set too, unchanged and complete ({whole}, here are {count}), and as far as the"
        " settings below allow."
    )


def _base(name: str) -> str:
    return DREAMBOOTH if name.startswith(DREAMBOOTH) else CUSTOM


def _mark(name: str, score: str) -> str:
    return " †" if name.endswith(DINO_REWARD) and score == "DINO" else ""


def _values(figures: Figures, name: str) -> list[str]:
    texts = []
    for i, score in enumerate(SCORES):
        top = max(values[i] for other, values in figures.items() if other.startswith(_base(name)))
        text = f"{figures[name][i]:.3f}{_mark(name, score)}"
        texts.append(Strong(text) if figures[name][i] == top else text)
    return texts


def _changes(figures: Figures, name: str) -> list[str]:
    pairs = zip(SCORES, figures[name], figures[_base(name)], strict=True)
    return [percent(value / base - 1) + _mark(name, score) for score, value, base in pairs]


def _our_values(benchmark: Benchmark, name: str) -> list[str]:
    method = _method(benchmark, name)
    if method is None:
        return ["–"] * 3
    found = {score: estimate(benchmark.images_of(method), score) for score in SCORES}
    return ["–" if f is None else plain(f.mean) + benchmark.mark(method, score) for score, f in found.items()]


def _our_changes(benchmark: Benchmark, name: str) -> list[str]:
    """In percent of the plain method of the same kind, with the interval if it is known."""
    method, base = _method(benchmark, name), _method(benchmark, _base(name))
    if method is None or base is None:
        return ["–"] * 3
    texts = []
    for score in SCORES:
        found = difference(benchmark, method, score, baseline=base)
        if found is None or found.relative is None:
            texts.append("–")
            continue
        bounds = " [" + ", ".join(percent(end / found.level, "") for end in found.interval[1:]) + "]"
        text = percent(found.relative) + (bounds if found.interval.known else "")
        texts.append(text + benchmark.mark(method, score, base))
    return texts


def _method(benchmark: Benchmark, name: str) -> str | None:
    """The method that fills a row of the paper and has finished cells."""
    return next((method for method in benchmark.present if benchmark.methods[method].paper == name), None)
