"""Memory of weights, gradients and moments, by arithmetic. docs/memory.md has the formulas in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from torch import Tensor, nn

QUANTISED = ("int8", "fp8", "nf4")
_BNB_BLOCK, _BNB_SMALL = 256, 4096  # bitsandbytes' 8-bit moments: numbers to a scale; below, they stay as they are
_NF4_BLOCK, _NF4_NESTED = 64, 256  # numbers to a scale, and scales to a scale of theirs


@dataclass(frozen=True)
class Row:
    """A line of the table. bytes: what it takes. training, drawing: whether that is on the device while a step is
    taken, and while samples are drawn. parameters: how many numbers, of weights.
    """

    part: str
    bytes: int
    parameters: int = 0
    training: bool = True
    drawing: bool = False


@dataclass(frozen=True)
class Table:
    """What a run needs. rows: in the order to be shown. unknown: what could not be counted."""

    rows: tuple[Row, ...]
    unknown: tuple[str, ...] = ()

    @property
    def training(self) -> int:
        """Bytes on the device in a training step."""
        return sum(row.bytes for row in self.rows if row.training)

    @property
    def drawing(self) -> int:
        """Bytes of weights and moments on the device while photos are encoded or samples drawn; no activations."""
        return sum(row.bytes for row in self.rows if row.drawing)

    @property
    def peak(self) -> int:
        """The larger of both."""
        return max(self.training, self.drawing)


def parameters_of(*modules: nn.Module, trained: bool | None = None) -> list[nn.Parameter]:
    """Each parameter once, those of tied weights too; of all, or of those that are trained or not."""
    found = {id(p): p for module in modules for p in module.parameters()}
    return [p for p in found.values() if trained is None or p.requires_grad is trained]


def frozen_bytes(modules: Iterable[nn.Module], weights: str, precision: str) -> int:
    """Bytes of the weights and buffers that are not trained: quantised in linear layers, the others in one precision.

    weights: as `model.weights`. precision: what the model computes in, "fp32" or "bf16", which the layers that are not
    quantised are stored in.
    """
    rest = 2 if weights != "fp32" and precision == "bf16" else 4
    total, seen = 0, set[int]()
    for module in (inner for outer in modules for inner in outer.modules()):
        for name, one in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if one.requires_grad or id(one) in seen:
                continue
            seen.add(id(one))
            if isinstance(module, nn.Linear) and name == "weight" and weights in QUANTISED:
                total += quantised_bytes(one, weights)
            elif one.is_floating_point() and not isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
                total += rest * one.numel()
            else:  # indices, and norms, which stay in single precision
                total += one.element_size() * one.numel()
    return total


def quantised_bytes(weight: Tensor, weights: str) -> int:
    """Bytes of one weight (out, in) of a linear layer: its numbers and their scales.

    int8 (torchao): a byte for a number; for each row a scale in single precision, and a byte for its zero. fp8
    (torchao): a byte for a number, and a scale for each row. nf4 (bitsandbytes, nested): half a byte; a byte for each
    64 numbers; four for each 256 of those.
    """
    numbers, rows = weight.numel(), weight.shape[0]
    if weights == "int8":
        return numbers + 5 * rows
    if weights == "fp8":
        return numbers + 4 * rows
    blocks = ceil(numbers / _NF4_BLOCK)
    return ceil(numbers / 2) + blocks + 4 * ceil(blocks / _NF4_NESTED)


def gradient_bytes(trained: Iterable[nn.Parameter], fused: bool = False) -> int:
    """Four bytes for each trained number; with fused updates, the largest weight alone."""
    sizes = [4 * parameter.numel() for parameter in trained]
    return max(sizes, default=0) if fused else sum(sizes)


def moment_bytes(trained: Iterable[nn.Parameter], eight_bit: bool = False) -> int:
    """AdamW's two moments: 8 bytes for each trained number, or, in 8 bits, 2 and two scales for each 256."""
    total = 0
    for parameter in trained:
        numbers = parameter.numel()
        blocks = ceil(numbers / _BNB_BLOCK)
        total += 2 * numbers + 8 * blocks if eight_bit and numbers >= _BNB_SMALL else 8 * numbers
    return total
