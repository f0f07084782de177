"""How much memory a computation holds at once, counted on the meta device, where tensors have shapes and no numbers."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lookforward.core.protocols import Family
from lookforward.core.types import Conditioning, State


class LiveBytes(TorchDispatchMode):
    """Within it, counts the bytes of all tensors that operations make: those alive now, and the most at any time.

    Tensors that share storage count once. Tensors that were there before do not count, nor do views of them.
    """

    def __init__(self, *known: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        tensors = [t for module in known for t in (*module.parameters(), *module.buffers())]
        self._sizes = {t.untyped_storage()._cdata: 0 for t in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class _FusedAttention(torch.autograd.Function):
    """What a fused kernel of attention makes and keeps, without its numbers: no matrix of all pairs of tokens."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return tuple(torch.empty_like(one) for one in ctx.saved_tensors[:3])


@contextmanager
def fused_attention() -> Iterator[None]:
    """Within it, attention counts as fused kernels compute it; on the meta device torch itself takes none.

    A replaced function and no mode of torch: modes do not reach what checkpointing computes again in backward.
    """
    own = functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        return _FusedAttention.apply(query, key, value)

    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = own


def activation_bytes(
    family: Family, denoiser: Any, latents: torch.Size, conditioning: Conditioning, *, dtype: torch.dtype, trained: bool
) -> int:
    """The most that one forward and backward pass of a denoiser on the meta device holds beside weights and gradients.

    The module itself is run, with gradient checkpointing if it is enabled there, and its tensors are counted. What
    kernels allocate inside an operation is not seen, and attention counts as its fused kernel stores it.

    latents: (b, c, h, w). conditioning: b prompts, of which shapes and the mask count. dtype: what it computes in; the
    module is cast to it. trained: whether a gradient reaches the prompts too.
    """
    nn.Module.to(denoiser, dtype).train()  # diffusers' own warns that some modules should stay as they are
    mask = None if conditioning.mask is None else conditioning.mask.cpu()  # its values decide on shapes
    words = replace(conditioning, mask=None).to("meta")
    words = replace(words, mask=mask, tokens=words.tokens.detach().requires_grad_(trained))
    with torch.device("meta"), fused_attention(), _dropped_gradients(denoiser), LiveBytes(denoiser) as live:
        state = State(torch.empty(latents, dtype=dtype), torch.zeros(latents[0], dtype=torch.long), words.to(dtype))
        action = family.denoise(denoiser, state, torch.zeros(latents[0]))
        action.float().square().mean().backward()
    return live.peak


def decoding_bytes(family: Family, vae: Any, latents: torch.Size, *, gradient: bool) -> int:
    """The most that decoding latents (b, c, h, w) by a VAE on the meta device holds, with or without backward pass."""
    with torch.device("meta"), fused_attention(), LiveBytes(vae) as live, torch.set_grad_enabled(gradient):
        images = family.decode(vae, torch.empty(latents, requires_grad=gradient))
        if gradient:
            images.mean().backward()
    return live.peak


@contextmanager
def _dropped_gradients(module: nn.Module) -> Iterator[None]:
    """Free the gradient of each weight as soon as it is there, so that it does not count as activation."""

    def drop(weight: Tensor) -> None:
        weight.grad = None

    hooks = [p.register_post_accumulate_grad_hook(drop) for p in module.parameters() if p.requires_grad]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
