"""A policy whose trained parts are sharded over the processes of a run, by torch's `fully_shard` (FSDP2).

Between two steps each process holds its part of every weight. A block's weights are whole while it computes.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from lookforward.core.sharding import whole
from lookforward.models.policy import DiffusionPolicy


class Shards:
    """Shard those components of a policy that have trained weights, and make them whole again to be exported.

    All processes must do so together. Optimizers are made afterwards, of `parameters`.

    Args:
        policy: its modules are changed in place.
        parameters: what is trained, by name.

    Attributes:
        parameters: the same, each with the part of its numbers that this process holds.
    """

    def __init__(self, policy: DiffusionPolicy, parameters: Mapping[str, nn.Parameter]) -> None:
        self.policy = policy
        names = {id(parameter): name for name, parameter in parameters.items()}
        found: dict[str, nn.Parameter] = {}
        self._empty: dict[str, nn.Module] = {}
        for part, module in policy.components.items():
            before = dict(module.named_parameters())
            trained = {place: names[id(one)] for place, one in before.items() if id(one) in names}
            if trained:
                self._empty[part] = _without_weights(module)
                shard(module, policy.device.type)
                after = dict(module.named_parameters())
                found |= {name: after[place] for place, name in trained.items()}
        self.parameters = {name: found[name] for name in parameters}  # in the order that optimizers keep

    @contextmanager
    def whole(self, main: bool) -> Iterator[None]:
        """The policy with whole weights in the memory of the CPU, where `main` is true, while the context lasts."""
        own = self.policy.components
        for part, empty in self._empty.items():
            for (_, sharded), parameter in zip(own[part].named_parameters(), empty.parameters(), strict=True):
                numbers = whole(sharded.detach())  # one weight at a time is whole on the device
                if main:
                    parameter.data = numbers.cpu()
        try:
            if main:
                self._place(self._empty)
            yield
        finally:
            self._place({part: own[part] for part in self._empty})
            for empty in self._empty.values():
                _forget(empty)

    def _place(self, modules: Mapping[str, nn.Module]) -> None:
        for part, module in modules.items():
            vars(self.policy.pipeline)[part] = module  # past diffusers' setter, which notes the name of a class
            if part == self.policy.family.denoiser:
                self.policy.denoiser = module
            else:
                self.policy.text_encoders[part] = module


def shard(module: nn.Module, device: str) -> None:
    """Shard a module in place: each of its blocks by itself, since one at a time is whole, and then the rest."""
    from torch.distributed.device_mesh import init_device_mesh  # here, since they take a second
    from torch.distributed.fsdp import fully_shard
    from transformers import PreTrainedModel
    from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    for one in [*reversed(blocks(module)), module]:  # a block within another one first
        fully_shard(one, mesh=mesh, reshard_after_forward=True)
        if isinstance(one, PreTrainedModel):  # its class is another one now, by whose name hidden states are looked up
            _CAN_RECORD_REGISTRY[one] = one._can_record_outputs


def blocks(module: nn.Module) -> list[nn.Module]:
    """The layers of a model that stay on one device when it is split over several, as its class names them."""
    names = {name for one in module.modules() for name in getattr(one, "_no_split_modules", None) or ()}
    return [one for one in module.modules() if type(one).__name__ in names and one is not module]


def _without_weights(module: nn.Module) -> nn.Module:
    """A copy on the CPU whose parameters have no numbers. A module that is sharded cannot be copied any more."""
    known: dict[int, object] = {
        id(p): nn.Parameter(torch.empty(0, dtype=p.dtype), p.requires_grad) for p in module.parameters()
    }
    known |= {id(buffer): buffer.detach().cpu().clone() for buffer in module.buffers()}
    return copy.deepcopy(module, known)


def _forget(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = torch.empty(0, dtype=parameter.dtype)
