"""T-LoRA (Soboleva et al., 2025, arXiv 2507.05964): a LoRA whose rank falls with the noise, from an orthogonal start.

The change of a linear layer of n inputs and m outputs, for a sample whose state has the share s = t/T of noise,

    ΔW(s) = P diag(λ ∘ μ(s)) Q - P_0 diag(λ_0 ∘ μ(s)) Q_0,    Q: (r, n), λ: (r,), P: (m, r)
    r(s) = ⌊(1 - s)^α (r - r_min)⌋ + r_min,                   μ(s)_i = 1 for i < r(s), else 0

so that few directions learn from noisy states, where a model overfits most. P_0, λ_0, Q_0 are where P, λ, Q begin: the
change begins at zero although no factor does. They are the last r singular vectors and values of a random matrix
of independent N(0, 1/r²), so that directions are independent of one another and a smaller rank loses none of the
others' work.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.random import Generator
from safetensors import safe_open
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.nn.functional import linear

from lookforward.adapters.layers import find_layers
from lookforward.errors import LookforwardError
from lookforward.files import structure, write_tensors
from lookforward.models.families import family_of
from lookforward.models.policy import DiffusionPolicy

WEIGHTS, _SETTINGS = "t_lora.safetensors", "t_lora"
_FACTORS = ("q", "scale", "p")


def ranks_at(share: Tensor, rank: int, least: int, power: float) -> Tensor:
    """r(s) of each sample: share (b,) in [0, 1] to (b,) int64 in [least, rank]. power: α > 0."""
    return ((1 - share.double().clamp(0, 1)) ** power * (rank - least)).long() + least


class Ranks:
    """Which directions of all layers count, from the timestep that the denoiser was called with last.

    Args:
        rank, least, power: as in `ranks_at`. share: from that timestep to the share of noise, `Family.noise_share`.
    """

    def __init__(self, rank: int, least: int, power: float, share: Callable[[Tensor], Tensor]) -> None:
        self.rank, self.least, self.power, self.share = rank, least, power, share
        self.mask = torch.ones(1, rank)

    def see(self, denoiser: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """A hook before the denoiser's forward pass."""
        timestep = torch.as_tensor(given["timestep"] if "timestep" in given else args[1]).reshape(-1)
        ranks = ranks_at(self.share(timestep.float()), self.rank, self.least, self.power)
        self.mask = (torch.arange(self.rank, device=ranks.device) < ranks[:, None]).float()  # (b or 1, r)

    def remembered(self, checkpoint: Callable[..., Any]) -> Callable[..., Any]:
        """diffusers' gradient checkpointing, which computes a block again with the ranks of its first time."""

        def call(block: Callable[..., Any], *args: Any) -> Any:
            mask = self.mask

            def again(*given: Any) -> Any:
                now, self.mask = self.mask, mask
                try:
                    return block(*given)
                finally:
                    self.mask = now

            return checkpoint(again, *args)

        return call


class RankedChange(nn.Module):
    """ΔW(s) of one layer, which adds ΔW(s) x to its output. Factors by name: q (r, n), scale (r,), p (m, r)."""

    q: Tensor
    scale: Tensor
    p: Tensor
    q_0: Tensor
    scale_0: Tensor
    p_0: Tensor

    def __init__(self, ranks: Ranks, factors: dict[str, Tensor], start: dict[str, Tensor], strength: float) -> None:
        super().__init__()
        self.ranks, self.strength = ranks, strength
        for name in _FACTORS:
            self.register_parameter(name, nn.Parameter(factors[name].clone()))
            self.register_buffer(f"{name}_0", start[name].clone())

    def add(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """A hook after the layer's forward pass."""
        x = args[0]
        if self.q.device != x.device:  # the pipeline was moved after the adapter was put into it
            self.to(x.device)
        mask = self.ranks.mask[:, : len(self.scale)].to(x.device)
        if len(mask) not in (1, len(x)):
            raise ValueError(f"a layer sees {len(x)} rows of {len(mask)} samples, each of which has a rank")
        mask = mask.reshape(len(mask), *(1,) * (x.ndim - 2), mask.shape[1])
        x = x.to(self.q.dtype)
        change = linear(linear(x, self.q) * (self.scale * mask), self.p)
        start = linear(linear(x, self.q_0) * (self.scale_0 * mask), self.p_0)
        return output + (self.strength * (change - start)).to(output.dtype)


class TLoraAdapter:
    """Args: rank ≥ 1; least in [1, rank]; power > 0; layers: as `find_layers`; generator: on the CPU.

    Raises:
        LookforwardError: a number is out of range.
    """

    changes_prompts = False

    def __init__(self, rank: int, least: int, power: float, layers: str, generator: torch.Generator) -> None:
        if not 1 <= least <= rank:
            raise LookforwardError(
                f"adapter.min_rank = {least} must be in [1, adapter.rank = {rank}].", code="setting-range"
            )
        self.rank, self.least, self.power, self.layers, self.generator = rank, least, power, layers, generator
        self._changes: dict[str, RankedChange] = {}
        self._hooks: list[Any] = []

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        for module in policy.components.values():
            module.requires_grad_(False)
        ranks, part = Ranks(self.rank, self.least, self.power, policy.family.noise_share), policy.family.denoiser
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=self.generator)))
        found = _linears(policy.denoiser, find_layers(policy, False, self.layers)[part])
        self._changes = {}
        for name, (outputs, inputs) in found.items():
            start = {
                one: value.to(policy.device) for one, value in orthogonal(random, inputs, outputs, self.rank).items()
            }
            self._changes[name] = RankedChange(ranks, start, start, 1.0)
        self._hooks = _put(policy.denoiser, ranks, self._changes)
        return {f"{part}.{layer}.{name}": getattr(one, name)
                for layer, one in self._changes.items() for name in _FACTORS}  # fmt: skip

    def detach(self, policy: DiffusionPolicy) -> None:
        for hook in self._hooks:
            hook.remove()

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        tensors = {f"{layer}.{name}": value.detach()
                   for layer, one in self._changes.items() for name, value in one.state_dict().items()}  # fmt: skip
        settings = {"rank": self.rank, "min_rank": self.least, "power": self.power}
        write_tensors(folder / WEIGHTS, tensors, {"format": "pt", _SETTINGS: json.dumps(settings)})


def build_t_lora(settings: Any, generator: torch.Generator) -> TLoraAdapter:
    """The adapter of a run's settings; `adapter.min_rank` 0 is half of the rank, rounded up."""
    chosen = settings.adapter
    least = chosen.min_rank or (chosen.rank + 1) // 2
    return TLoraAdapter(chosen.rank, least, chosen.rank_power, chosen.layers, generator)


@dataclass(frozen=True)
class _Stored:
    """What the file says of all layers, see `ranks_at`."""

    rank: int
    min_rank: int
    power: float

    def __post_init__(self) -> None:
        if not 1 <= self.min_rank <= self.rank <= 65536 or not self.power > 0:
            raise ValueError("a rank or the power is out of range")


def _fits(factors: dict[str, Tensor | None], shape: tuple[int, int] | None, most: int) -> TypeGuard[dict[str, Tensor]]:
    """Whether factors are those of a layer of (outputs, inputs), of a rank up to `most`."""
    q, scale, p = (factors[name] for name in _FACTORS)
    if shape is None or q is None or scale is None or p is None or scale.ndim != 1:
        return False
    rank, floats = len(scale), all(one.is_floating_point() for one in (q, scale, p))
    return floats and 1 <= rank <= most and q.shape == (rank, shape[1]) and p.shape == (shape[0], rank)


def load_t_lora(pipeline: Any, folder: Path | str, strength: float = 1.0) -> None:
    """Put an exported T-LoRA into a pipeline, which then reads each timestep it draws at. strength: 0 is none, 1 all.

    Raises:
        LookforwardError: the folder holds no such export, or it does not fit the pipeline.
    """
    path, family = Path(folder) / WEIGHTS, family_of(pipeline)
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads(file.metadata()[_SETTINGS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        chosen = structure(settings, _Stored, path)
        ranks = Ranks(chosen.rank, chosen.min_rank, chosen.power, family.noise_share)
    except Exception as error:  # OSError, KeyError, ValueError and safetensors' own
        raise LookforwardError(
            f"{path} cannot be read: give the export of a run with adapter t-lora.", code="export-unreadable"
        ) from error
    denoiser: nn.Module = getattr(pipeline, family.denoiser)
    layers = {name.rpartition(".")[0] for name in tensors}
    shapes, changes = _linears(denoiser, sorted(layers)), dict[str, RankedChange]()
    for layer in sorted(layers):
        learned, start = ({one: tensors.get(f"{layer}.{one}{end}") for one in _FACTORS} for end in ("", "_0"))
        shape = shapes.get(layer)
        if not (_fits(learned, shape, chosen.rank) and _fits(start, shape, len(learned["scale"]))):
            raise LookforwardError(
                f"{path} does not fit this model at {layer}: give the base model that it was trained on.",
                code="export-misfit",
            )
        changes[layer] = RankedChange(ranks, learned, start, strength).requires_grad_(False)
    _put(denoiser, ranks, changes)


def orthogonal(random: Generator, inputs: int, outputs: int, rank: int) -> dict[str, Tensor]:
    """The last singular vectors and values of a matrix of N(0, 1/rank²), `rank` or as many as there are.

    As they are distributed, without its decomposition, which would take minutes for a large model: vectors are uniform
    and independent of the values; these are those of a bidiagonal matrix of chi numbers (Dumitriu and Edelman, 2002).
    """
    least, most = sorted((inputs, outputs))
    count = min(rank, least)
    diagonal = np.sqrt(random.chisquare(np.arange(most, most - least, -1)))
    beside = np.sqrt(random.chisquare(np.arange(least - 1, 0, -1)))
    chain = np.zeros(2 * least - 1)
    chain[::2], chain[1::2] = diagonal, beside  # its eigenvalues are ± the singular values
    values = eigh_tridiagonal(
        np.zeros(2 * least), chain, eigvals_only=True, select="i", select_range=(least, least + count - 1)
    )
    vectors = [np.linalg.qr(random.standard_normal((size, count)))[0] for size in (inputs, outputs)]
    q, p = (torch.from_numpy(one).float() for one in vectors)
    scale = torch.from_numpy(np.abs(values[::-1]).copy()).float() / rank
    return {"q": q.T.contiguous(), "scale": scale, "p": p.contiguous()}


def _linears(module: nn.Module, targets: list[str]) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the linear layers whose name is or ends with one of `targets`, by their whole name."""
    return {
        name: (layer.out_features, layer.in_features)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and any(name == one or name.endswith(f".{one}") for one in targets)
    }


def _put(denoiser: nn.Module, ranks: Ranks, changes: dict[str, RankedChange]) -> list[Any]:
    """Hook the changes to their layers and the ranks to the timestep; returns what takes the hooks away."""
    hooks: list[Any] = [denoiser.register_forward_pre_hook(ranks.see, with_kwargs=True)]
    hooks += [denoiser.get_submodule(name).register_forward_hook(one.add) for name, one in changes.items()]
    for module in denoiser.modules():
        if getattr(module, "gradient_checkpointing", False):
            own = module._gradient_checkpointing_func
            module._gradient_checkpointing_func = ranks.remembered(own)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    return hooks
