"""A step of a baseline: it takes the place of `algorithm.step.train_step` in the trainer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lookforward.algorithm.environment import act_on
from lookforward.algorithm.readings import Metrics, read
from lookforward.algorithm.trainer import Trainer
from lookforward.algorithm.updates import update_policy
from lookforward.baselines.sampler import Sampler, SamplingInputs


class Method(Protocol):
    """DRaFT, DPOK, Flow-GRPO or DiffusionNFT. Tensors of its own, `old`, are saved with a checkpoint."""

    @property
    def sampler(self) -> Sampler: ...

    def losses(self, inputs: SamplingInputs) -> Iterator[Iterator[tuple[Tensor, Metrics]]]: ...


@dataclass(frozen=True)
class BaselineStep:
    """One step of a method, with prior preservation. images: how many it draws."""

    method: Method
    images: int

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the method keeps from step to step beside the trained weights, by name."""
        return getattr(self.method, "old", {})

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` was."""
        self.tensors.clear()
        self.tensors.update(tensors)

    def __call__(self, trainer: Trainer) -> dict[str, float]:
        """Draw images and follow their reward; returns the metrics of the last update."""
        start = trainer.draw(trainer.references, trainer.generator, self.images)
        conditioning = trainer.prompts(start.prompts)
        empty = None if self.method.sampler.guidance == 1 else trainer.prompts(("",))
        metrics: Metrics = {}
        inputs = SamplingInputs(
            trainer.policy,
            trainer.environment,
            start,
            conditioning,
            empty,
            trainer.critic_generator,
            trainer.parameters,
            trainer.step,
        )
        for parts in self.method.losses(inputs):
            metrics = {}
            gradient = update_policy(trainer, _with_prior(trainer, parts, metrics))
            metrics["gradient"] = gradient
        return read(metrics)


def _with_prior(trainer: Trainer, parts: Iterable[tuple[Tensor, Metrics]], metrics: Metrics) -> Iterator[Tensor]:
    """The parts of a loss, the first with prior preservation added; sums their metrics up in `metrics`."""
    for i, (loss, of_part) in enumerate(parts):
        of_part = dict(of_part)
        if i == 0 and trainer.class_images is not None:
            batch = trainer.draw(trainer.class_images, trainer.generator)
            transition, _ = act_on(trainer.policy, batch, trainer.prompts(batch.prompts))
            prior = ((transition.action - transition.target) ** 2).mean()
            loss = loss + trainer.objective.prior_weight * prior
            of_part |= {"prior_loss": prior.detach(), "loss": loss.detach()}
        for name, value in of_part.items():
            metrics[name] = metrics.get(name, 0.0) + value
        yield loss
