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
    """The trained weights. See docs/adapters.md."""

    name: str = setting(
        "full",
        "What to train: full (all weights), or an adapter.",
        headline=True,
        choices=tuple(spec.name for spec in ADAPTERS),
    )
    train_text_encoder: bool = setting(
        True,
        "Also train the text encoder.",
        only_with=("adapter.name", ("full", "lora", "dora", "loha", "lokr", "oft", "pivotal")),
    )
    rank: int = _of_adapter("rank", 4, "Rank of the weight update.", "[1, 65536]")
    min_rank: int = _of_adapter("min_rank", 0, "Rank at pure noise. 0: half of the rank.", "[0, 65536]")
    rank_power: float = _of_adapter(
        "rank_power", 1.0, "How the rank falls with the noise: as this power of 1 - t/T.", "(0, 100]"
    )
    alpha: float = _of_adapter("alpha", 4.0, "The weight update is scaled by alpha / rank.", "(0, 1000000]")
    layers: str = _of_adapter(
        "layers",
        "",
        'Linear layers to adapt, such as "attn2.to_k, mid_block.*". Empty: the default layers of the model.',
    )
    start: str = _of_adapter("start", "", "Run or export of an earlier LoRA to start from.")
    encoder: str = setting(
        "",
        "Folder of a photo encoder (`lookforward pretrain-encoder`) whose word and details training starts from; or "
        "public IP-Adapter weights, REPOSITORY:FILE.safetensors.",
    )
    lokr_factor: int = _of_adapter("lokr_factor", -1, "Size of LoKr's small factor; -1: as square as possible.")
    oft_block_size: int = _of_adapter("oft_block_size", 32, "Size of OFT's rotated blocks.", "[2, inf)")
    initial_word: str = _of_adapter(
        "initial_word", "", "Word whose embedding initialises the learned word. Empty: the class noun."
    )
    vectors: int = _of_adapter("vectors", 1, "Number of tokens of the learned word.", "[1, 1000]")
    neti_width: int = _of_adapter("neti_width", 128, "Width of the mapper's hidden layers.", "[1, 65536]")
    neti_bypass: float = _of_adapter(
        "neti_bypass", 0.2, "α, weight of the mapper's output that is added after the text encoder."
    )
    neti_dropout: float = _of_adapter(
        "neti_dropout", 0.5, "Probability that nested dropout truncates the mapper's hidden layer."
    )
