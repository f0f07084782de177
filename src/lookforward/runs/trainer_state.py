"""The state of a trainer as named tensors, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lookforward.algorithm.trainer import Trainer
from lookforward.core.protocols import Keeping
from lookforward.core.sharding import share

_GENERATORS = ("generator", "critic_generator", "adapter_generator")


def state_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All that a step reads or changes: "policy/NAME", "optimizer/3/exp_avg", and the states of the generators."""
    groups: dict[str, Mapping[str, Tensor]] = {
        "policy": trainer.parameters,
        "optimizer": _moments(trainer.optimizer),
    }
    if trainer.averages is not None:
        groups["average"] = trainer.averages.values
    if isinstance(trainer.take_step, Keeping):
        groups["baseline"] = trainer.take_step.tensors
    if trainer.critic_updater is not None:
        groups["critic"] = trainer.critic_updater.critic.state_dict()
        groups["critic_optimizer"] = _moments(trainer.critic_updater.optimizer)
    tensors = {f"{group}/{name}": tensor for group, of_group in groups.items() for name, tensor in of_group.items()}
    return tensors | {name: getattr(trainer, name).get_state() for name in _GENERATORS}


def restore_state(trainer: Trainer, tensors: Mapping[str, Tensor], *, has_critic: bool) -> None:
    """Put back what `state_tensors` gave. has_critic: whether the trainer of then had a critic.

    Raises ValueError where the tensors are of another run; the trainer is then as it was.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        groups.setdefault(group, {})[key] = tensor
    saved, wanted = groups["policy"], trainer.parameters
    if saved.keys() != wanted.keys() or any(saved[n].shape != p.shape for n, p in wanted.items()):
        raise ValueError("it has other parameters than this run trains")
    if has_critic != (trainer.critic_updater is not None):
        raise ValueError("a run with another critic wrote it")
    if ("average" in groups) != (trainer.averages is not None):
        raise ValueError("a run with another optimizer.ema wrote it")
    _check_moments(trainer.optimizer, groups.get("optimizer", {}))
    if trainer.critic_updater is not None:
        _check_moments(trainer.critic_updater.optimizer, groups.get("critic_optimizer", {}))
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(share(saved[name], parameter))
        for name, value in trainer.averages.values.items() if trainer.averages is not None else ():
            value.copy_(share(groups["average"][name], value))
    _restore_moments(trainer.optimizer, groups.get("optimizer", {}))
    if trainer.critic_updater is not None:
        trainer.critic_updater.critic.load_state_dict(groups["critic"])
        _restore_moments(trainer.critic_updater.optimizer, groups.get("critic_optimizer", {}))
    if isinstance(trainer.take_step, Keeping):
        trainer.take_step.restore(groups.get("baseline", {}))
    for name in _GENERATORS:
        getattr(trainer, name).set_state(tensors[name])


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds a NaN or an infinity; "" if none does."""
    floats = (item for item in tensors.items() if item[1].is_floating_point())
    return next((name for name, tensor in floats if not bool(tensor.isfinite().all())), "")


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of each parameter as flat tensors: "3/exp_avg"."""
    return dict(_flat("", optimizer.state_dict()["state"]))


def _flat(prefix: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Nested values by "outer/inner"; plain integers, by which an 8-bit optimizer counts, become int64 of no axis."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}/", value)
        elif isinstance(value, Tensor | int):
            yield f"{prefix}{name}", value if isinstance(value, Tensor) else torch.tensor(value)


def _check_moments(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless each parameter has the moments that a step of AdamW or Adam needs, of its shape."""
    if type(optimizer) not in (torch.optim.AdamW, torch.optim.Adam) or not flat:
        return  # of others, what is kept depends on the size of a parameter
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for place in sorted({int(key.partition("/")[0]) for key in flat}):
        moments = {key.partition("/")[2]: value for key, value in flat.items() if key.startswith(f"{place}/")}
        if place >= len(parameters) or moments.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"the optimizer's state {place} is {', '.join(sorted(moments))}")
        if any(moments[name].shape != parameters[place].shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError(f"the optimizer's state {place} has another shape")


def _restore_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, Any] = {}
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for key, value in flat.items():
        index, *outer, name = key.split("/")
        value = share(value, of) if value.shape == (of := parameters[int(index)]).shape else value
        inner = state.setdefault(int(index), {})
        for one in outer:
            inner = inner.setdefault(one, {})
        inner[name] = int(value) if value.ndim == 0 and value.dtype == torch.int64 else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
