"""Losses that compare the policy with the untouched model in the same states: DCO and RPO.

e_θ is a sample's own squared error, mean (o_θ - target)², and e_0 that of the untouched model at the same x_t and t.
The gain e_0 - e_θ says how much better the policy knows the sample than the untouched model does.

Lee et al. 2024, "Direct Consistency Optimization for Robust Customization of Text-to-Image Diffusion Models",
arXiv 2402.12004 (DCO): the gain on photos takes the place of the reconstruction loss,

    L = -log σ(β (e_0 - e_θ)),    ∇L = β σ(-β (e_0 - e_θ)) ∇e_θ

so that a photo that is already learned moves the policy no further.

Miao et al. 2024, "Subject-driven Text-to-Image Generation via Preference-based Reinforcement Learning",
arXiv 2407.12164 (RPO): the gain on a photo against that on an image that the untouched model drew,

    κ = β ((e_0 - e_θ)(photo) - (e_0 - e_θ)(drawn)),    L = -p log σ(κ) - (1 - p) log σ(-κ)

p is the probability that the photo is preferred, σ(r(photo) - r(drawn)) with the λ-harmonic reward r of
`assembly.preference`.

docs/rivals.md names the differences from the papers.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lookforward.algorithm.readings import Metrics
from lookforward.algorithm.trainer import Trainer
from lookforward.core.types import Batch, Transition


def with_known(
    trainer: Trainer, batch: Batch, transition: Transition, class_transition: Transition | None
) -> tuple[Transition, Transition | None]:
    """Both transitions with the untouched model's output in their states (`Transition.known`), where a loss needs it.

    DCO asks it about the photo with the prompt without the identifier, RPO about photo and drawn image with their own.
    """
    reference, objective = trainer.reference, trainer.objective
    if reference is None:
        return transition, class_transition
    if objective.preference and class_transition is not None and batch.class_images is not None:
        known = reference.act(class_transition.state, batch.class_images.prompts)
        class_transition = replace(class_transition, known=known, preferred=batch.class_images.preferred)
        if not objective.dco:
            return replace(transition, known=reference.act(transition.state, batch.prompts)), class_transition
    return replace(transition, known=reference.act(transition.state, batch.plain_prompts)), class_transition


def gain(trainer: Trainer, transition: Transition) -> Tensor:
    """e_0 - e_θ of each sample, (b,): above 0 where the policy's error is the smaller one."""
    if transition.known is None:
        raise ValueError("no output of the untouched model to compare with")
    known = replace(transition, action=transition.known)
    return trainer.errors(known) - trainer.errors(transition)


def dco_loss(trainer: Trainer, transition: Transition) -> tuple[Tensor, Metrics]:
    """DCO's loss of photos, a scalar, and metrics."""
    gained = gain(trainer, transition)  # (b,)
    loss = -logsigmoid(trainer.objective.dco * gained).mean()
    return loss, {"gain": gained.detach().mean(), "dco_loss": loss.detach()}


def preference_loss(trainer: Trainer, photos: Transition, drawn: Transition) -> tuple[Tensor, Metrics]:
    """RPO's loss of pairs of a photo and a drawn image, a scalar, and metrics."""
    preferred = drawn.preferred
    if preferred is None:
        raise ValueError("the drawn images have no probability that a photo is preferred")
    own, other = gain(trainer, photos), gain(trainer, drawn)  # (b,)
    kappa = trainer.objective.preference * (own - other)
    loss = -(preferred * logsigmoid(kappa) + (1 - preferred) * logsigmoid(-kappa)).mean()
    with torch.no_grad():
        metrics: Metrics = {"gain": own.mean(), "drawn_gain": other.mean(), "preference_loss": loss.detach()}
    return loss, metrics
