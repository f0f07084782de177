"""Memory of weights, gradients and moments, by arithmetic. docs/memory.md has the formulas in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Literal

from torch import Tensor, nn

Weights = Literal["fp32", "bf16", "int8", "fp8", "nf4"]
QUANTISED = ("int8", "fp8", "nf4")
_BNB_BLOCK, _BNB_SMALL = 256, 4096  # bitsandbytes' 8-bit moments: numbers to a scale; below, they stay as they are
_NF4_BLOCK, _NF4_NESTED = 64, 256  # numbers to a scale, and scales to a scale of theirs


@dataclass(frozen=True)
class Row:
    """A line of the table. bytes: on the device. resident: whether it is there while training."""

    part: str
    bytes: int
    parameters: int = 0
    resident: bool = True


def parameters_of(*modules: nn.Module, trained: bool | None = None) -> list[nn.Parameter]:
    """Each parameter once, those of tied weights too; of all, or of those that are trained or not."""
    found = {id(p): p for module in modules for p in module.parameters()}
    return [p for p in found.values() if trained is None or p.requires_grad is trained]


def frozen_bytes(modules: Iterable[nn.Module], weights: str, precision: str) -> int:
    """Bytes of the weights and buffers that are not trained: quantised in linear layers, the others in one precision.

    weights: of the frozen parts, see `Weights`. precision: what the model computes in, "fp32" or "bf16", which the
    layers that are not quantised are stored in.
    """
    rest = 4 if weights == "fp32" else 2 if weights == "bf16" or precision == "bf16" else 4
    total, seen = 0, set[int]()
    for module in (inner for outer in modules for inner in outer.modules()):
        for name, weight in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if weight.requires_grad or id(weight) in seen:
                continue
            seen.add(id(weight))
            linear = isinstance(module, nn.Linear) and name == "weight"
            total += (
                quantised_bytes(weight, weights, rest) if linear and weights in QUANTISED else rest * weight.numel()
            )
    return total


def quantised_bytes(weight: Tensor, weights: str, rest: int) -> int:
    """Bytes of one weight (out, in) of a linear layer: its numbers and their scales.

    int8 (torchao): a byte for a number, and for each row a scale in the precision of the rest. fp8 (torchao): the same
    with a scale in single precision. nf4 (bitsandbytes, nested): half a byte; a byte for each 64 numbers; four for each
    256 of those.
    """
    numbers, rows = weight.numel(), weight.shape[0]
    if weights == "int8":
        return numbers + rest * rows
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


def total(rows: Iterable[Row], drawing: bool = False) -> int:
    """Bytes while training or, with drawing, while samples are drawn: all weights are there then, no activations."""
    if drawing:
        return sum(row.bytes for row in rows if row.parameters or row.part == MOMENTS)
    return sum(row.bytes for row in rows if row.resident)


MOMENTS = "optimizer"
