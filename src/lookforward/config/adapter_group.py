"""The settings of adapters, each with its default, its range and its help in one place."""

from dataclasses import dataclass
from typing import Any

from lookforward.adapters import ADAPTERS
from lookforward.config.spec import setting


def _of_adapter(name: str, default: Any, help: str, within: str = "") -> Any:
    """A setting that only some adapters read, as their specs say."""
    readers = tuple(spec.name for spec in ADAPTERS if f"adapter.{name}" in spec.settings)
    return setting(default, help, within, only_with=("adapter.name", readers))


@dataclass(frozen=True)
class AdapterSettings:
    """Which weights are trained. docs/adapters.md explains each."""

    name: str = setting(
        "full",
        "What is trained: all weights, or an adapter.",
        headline=True,
        choices=tuple(spec.name for spec in ADAPTERS),
    )
    train_text_encoder: bool = setting(
        True,
        "Train the text encoder too, with full, lora and dora.",
        only_with=("adapter.name", ("full", "lora", "dora", "loha", "lokr", "oft", "pivotal")),
    )
    rank: int = _of_adapter("rank", 4, "Rank of the learned change.")
    alpha: float = _of_adapter("alpha", 4.0, "The learned change is scaled by alpha / rank.")
    layers: str = _of_adapter(
        "layers",
        "",
        'Linear layers that are adapted, such as "attn2.to_k, mid_block.*"; the model\'s usual ones if empty.',
    )
    start: str = _of_adapter("start", "", "Run or export of an earlier LoRA, whose weights this one begins with.")
    lokr_factor: int = _of_adapter("lokr_factor", -1, "Size of LoKr's small factor; -1: as square as it can be.")
    oft_block_size: int = _of_adapter("oft_block_size", 32, "Size of OFT's rotated blocks.", "[2, inf)")
    initial_word: str = _of_adapter(
        "initial_word", "", "Word whose embedding a learned word begins with; the class noun if empty."
    )
    vectors: int = _of_adapter("vectors", 1, "Tokens that a learned word consists of.")
    neti_width: int = _of_adapter("neti_width", 128, "Width of the mapper's hidden layers.")
    neti_bypass: float = _of_adapter("neti_bypass", 0.2, "α, weight of the mapper's output behind the text encoder.")
    neti_dropout: float = _of_adapter(
        "neti_dropout", 0.5, "Probability that nested dropout truncates the mapper's hidden layer."
    )
