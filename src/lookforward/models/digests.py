"""Digests of a module's weights as its files hold them, whatever they are stored in on the device."""

import hashlib
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_KNOWN: "WeakKeyDictionary[nn.Module, list[bytes]]" = WeakKeyDictionary()


def weight_digests(module: nn.Module) -> list[bytes]:
    """A digest of each weight in single precision, sorted; of what was loaded, where that was quantised since."""
    return _KNOWN.get(module) or digest_weights(module.parameters())


def digest_weights(weights: Iterable[Tensor]) -> list[bytes]:
    """A digest of each tensor by its shape and its numbers in single precision, sorted."""
    return sorted(_digest(weight) for weight in weights)


def remember_digests(module: nn.Module, digests: list[bytes]) -> None:
    """Of a module whose weights are stored in less than what they were loaded with."""
    _KNOWN[module] = digests


def _digest(weight: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tuple(weight.shape)}".encode())
    digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.digest()
