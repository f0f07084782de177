"""The network updates of a step: act on micro-batches, and one optimizer step of critic and policy.

Gradients are averaged over processes, clipped, and checked before a weight changes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lookforward.algorithm.comparison import with_known
from lookforward.algorithm.environment import act_on, require_finite
from lookforward.algorithm.fused_updates import updating_in_backward
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.algorithm.readings import Metrics, read
from lookforward.algorithm.trainer import CriticUpdater, Trainer
from lookforward.core.sharding import whole
from lookforward.core.types import Batch, Transition
from lookforward.errors import LookforwardError, is_out_of_memory, out_of_memory

_REMEDY = "lower learning_rate or critic.weight, or use precision fp32"
_CRITIC_REMEDY = "the critic's learning rate is too high: lower critic.learning_rate"


def act_with_prompts(trainer: Trainer, batch: Batch, part: int = 0) -> tuple[Transition, Transition | None]:
    """Act on photos and class images, with their prompts encoded: `act_on`. part: the micro-batch's place."""
    if trainer.dropout is not None:
        trainer.dropout.at(part)
    prompts = batch.prompts + (batch.class_images.prompts if batch.class_images is not None else ())
    transition, class_transition = act_on(trainer.policy, batch, trainer.prompts(prompts))
    if trainer.untouched is not None and class_transition is not None:  # the class as the model knew it
        known = trainer.untouched.act(class_transition.state, batch.plain_prompts)
        class_transition = replace(class_transition, target=known)
    return with_known(trainer, batch, transition, class_transition)


@torch.no_grad()
def join_actions(trainer: Trainer, parts: Iterable[Batch]) -> Transition:
    """What the policy does on the photos of all micro-batches, one after the other, without a gradient."""
    photos = [replace(part, class_images=None) for part in parts]
    with torch.set_grad_enabled(trainer.dropout is not None):  # dropout is for training: it asks whether there is one
        return Transition.cat([act_with_prompts(trainer, part, i)[0].detach() for i, part in enumerate(photos)])


def critic_step(
    updater: CriticUpdater, transition: Transition, q_target: Tensor, processes: Processes = ALONE
) -> Metrics:
    """One step of the critic towards the returns (b,) of a transition, if all is finite (line 8)."""
    critic, transition, timestep = updater.critic, transition.detach(), transition.state.timestep
    require_finite(q_target, "q_target", "the reward, or the critic that predicts it, diverged; lower critic.weight")
    critic.scale.observe(*processes.gather(q_target, timestep))
    wanted = critic.scale.normalise(q_target, timestep)  # (b,)
    q = critic(transition)  # (b,)
    loss = mse_loss(q, wanted)
    updater.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    processes.average_gradients(critic.trained_parameters())
    # A return near t = T can be a thousand times one near t = 0: unclipped, one such step throws the critic off
    norm = torch.nn.utils.clip_grad_norm_(critic.trained_parameters(), updater.max_norm)
    require_all_finite({"critic_loss": loss, "critic_gradient": norm}, _CRITIC_REMEDY)
    updater.optimizer.step()
    critic.update_target_network()
    return {
        "critic_loss": loss.detach(),
        "q": q.detach().mean(),
        "q_target": q_target.mean(),
        "explained_variance": critic.explained_variance.observe(*processes.gather(q.detach(), wanted)),
    }


def update_policy(trainer: Trainer, loss: Tensor | Iterable[Tensor]) -> float:
    """One step of the policy against `loss`; returns the norm of the gradient before clipping.

    loss: a scalar, or parts that sum to it, of which one at a time is in memory. If it is not finite, nothing changes;
    with fused updates, the weights that were reached before have changed already.
    """
    trainer.optimizer.zero_grad(set_to_none=True)
    parts = (loss,) if isinstance(loss, Tensor) else loss
    if trainer.fused:
        with updating_in_backward(trainer.optimizer, trainer.parameters.values(), trainer.max_grad_norm) as norms:
            for part in parts:
                require_finite(part, "loss", _REMEDY)
                part.backward()
        return torch.stack(norms).norm().item() if norms else 0.0
    losses: list[Tensor] = []
    for part in parts:
        part.backward()
        losses.append(part.detach())
    parameters = list(trainer.parameters.values())
    trainer.processes.average_gradients(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = total_norm(gradients)
    found = require_all_finite({"loss": torch.stack(losses).sum(), "gradient": whole(norm)}, _REMEDY)
    try:
        clipped_step(trainer.optimizer, parameters, norm, trainer.max_grad_norm)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Some weights may have changed, and the moments do not depend on the batch: the step cannot be taken again
        raise out_of_memory("in the optimizer, whatever the batch", error) from error
    return found["gradient"]


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, a scalar; 0 of none."""
    if not gradients:
        return torch.tensor(0.0)
    # CPU tensors too: without `foreach`, PyTorch loops over them in Python
    foreach = gradients[0].device.type in ("cpu", "cuda")
    return torch.nn.utils.get_total_norm(gradients, foreach=foreach or None)


def clipped_step(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], norm: Tensor, max_norm: float
) -> None:
    """A step with gradients scaled so that their norm is at most `max_norm`. norm: their norm now, a scalar.

    PyTorch's fused kernels scale each gradient where they read it; other optimizers get them scaled before.
    """
    if not any(group.get("fused") for group in optimizer.param_groups):
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        optimizer.step()
        return
    optimizer.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1.0)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale  # pyright: ignore[reportAttributeAccessIssue]


def require_all_finite(scalars: Metrics, remedy: str) -> dict[str, float]:
    """The scalars as plain numbers, in one read of the device. Raises LookforwardError for the first not finite."""
    found = read(scalars)
    for name, value in found.items():
        if not math.isfinite(value):
            raise LookforwardError(f"{name} is {value}: nothing was updated; {remedy}.", code="not-finite")
    return found
