"""Measure a model while it trains: images of validation prompts, and the denoising loss on fixed noise."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lookforward.algorithm.environment import act_on
from lookforward.algorithm.examples import Buckets, Examples
from lookforward.algorithm.trainer import Trainer
from lookforward.assembly.evaluators import encoder_sources
from lookforward.bundle import BUNDLED, require_bundle
from lookforward.config.settings import Settings
from lookforward.core.types import Batch
from lookforward.data.prompts import LIVE_CLASSES, VALIDATION_OUTFITS, VALIDATION_SCENES
from lookforward.data.subject import Subject
from lookforward.models.encoders import Encoders, to_unit
from lookforward.models.encoders.similarity import PromptSimilarity, Similarity
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from lookforward.runs.step_choice import Evaluation, Scale

_FIRST_SEED = 7_000  # of the images: no sample, no class image and no benchmark is drawn from these
_LOSS_SAMPLES = 8


@dataclass(frozen=True)
class _Prompts:
    """What one subject is drawn in. prompts: as the policy reads them; plain: without the identifier, for CLIP."""

    prompts: tuple[str, ...]
    plain: tuple[str, ...]


def validation_scenes(model: str, class_noun: str, count: int) -> tuple[str, ...]:
    """Endings of `count` validation prompts, a quarter of them outfits if the subject is alive.

    None of them is a benchmark's prompt, except on the bundled model, whose world has no other scenes.
    """
    scenes = require_bundle().places()[::3] if model in BUNDLED else VALIDATION_SCENES
    outfits = VALIDATION_OUTFITS if class_noun in LIVE_CLASSES else ()
    worn = min(len(outfits), count // 4)
    return (*(scenes[i % len(scenes)] for i in range(count - worn)), *outfits[:worn])


class Validation:
    """Measures the policy of a run as it is now. The random streams of the training stay where they are."""

    def __init__(
        self,
        settings: Settings,
        subject: Subject,
        policy: DiffusionPolicy,
        photos: Sequence[Tensor],
        held: Examples | Buckets | None = None,
    ) -> None:
        """photos: of each subject its squares (k, 3, h, w) in [0, 1]. held: photos that training does not see.

        Raises:
            LookforwardError: an encoder cannot be loaded.
        """
        self.policy, self.settings, self._held = policy, settings, held
        encoders = Encoders(encoder_sources(settings.model.name), policy.device, published=True)
        self.prompt_following = PromptSimilarity(encoders.clip)
        self.likeness = [Similarity(encoders.dino, some) for some in photos]
        self.drawn = [self._prompts(one) for one in subject.together]
        self._photo_ends = self._measure_photos(photos)
        self._batch: Batch | None = None

    def _prompts(self, one: Subject) -> _Prompts:
        scenes = validation_scenes(self.settings.model.name, one.class_noun, self.settings.evaluation.images)
        return _Prompts(
            tuple(f"a photo of {one.name} {scene}" for scene in scenes),
            tuple(f"a photo of a {one.class_noun} {scene}" for scene in scenes),
        )

    @torch.no_grad()
    def _measure_photos(self, photos: Sequence[Tensor]) -> tuple[float, float]:
        """Identity of the photos among each other, and how well they follow the validation prompts."""
        identity, prompt = [], []
        for some, likeness, drawn in zip(photos, self.likeness, self.drawn, strict=True):
            k = len(some)
            alike = likeness.references @ likeness.references.T  # (k, k)
            others = (alike.sum() - alike.diagonal().sum()) / (k * (k - 1)) if k > 1 else torch.ones(())
            identity.append(others.item())
            follows = [self.prompt_following(some, [text] * k).mean() for text in drawn.plain]
            prompt.append(torch.stack(follows).mean().item())
        return _mean(identity), _mean(prompt)

    def scale(self, untouched: Evaluation) -> Scale:
        """The scales that measurements are put on. untouched: that of step 0."""
        identity, prompt = self._photo_ends
        weight = self.settings.evaluation.identity_weight
        return Scale((untouched.identity, identity), (untouched.prompt, prompt), weight)

    @torch.no_grad()
    def measure(self, trainer: Trainer) -> Evaluation:
        """The policy as it is now, after `trainer.step` steps."""
        started = time.perf_counter()
        with undisturbed(trainer), self.policy.placement.awake():
            identity, prompt = zip(*(self._measure(i) for i in range(len(self.drawn))), strict=True)
            loss = self._loss(trainer)
        seconds = round(time.perf_counter() - started, 3)
        return Evaluation(trainer.step, _mean(identity), _mean(prompt), loss, seconds)

    def _measure(self, place: int) -> tuple[float, float]:
        """Identity and prompt following of the subject at `place`."""
        drawn, asked = self.drawn[place], self.settings.evaluation
        images = draw_images(
            self.policy.pipeline,
            drawn.prompts,
            [_FIRST_SEED + i for i in range(len(drawn.prompts))],
            steps=asked.validation_steps or max(1, asked.sampler_steps // 4),
            guidance=asked.guidance,
            resolution=self.settings.data.resolution,
        )
        units = to_unit(images).to(self.policy.device)
        identity = self.likeness[place](units).mean().item()
        return identity, self.prompt_following(units, drawn.plain).mean().item()

    def _loss(self, trainer: Trainer) -> float:
        """Eq. 1 on the held-out photos, or those of training, at the same noise and timesteps in each measurement."""
        if self._batch is None:
            generator = torch.Generator().manual_seed(_FIRST_SEED)
            examples = self._held or trainer.references
            self._batch = examples.draw(_LOSS_SAMPLES, self.policy.path, generator)
        transition, _ = act_on(self.policy, self._batch, self.policy.encode_prompts(self._batch.prompts))
        return transition.masked((transition.action - transition.target) ** 2).mean().item()


@contextmanager
def undisturbed(trainer: Trainer) -> Iterator[None]:
    """Put the random streams back afterwards: an adapter may draw from its own in a forward pass."""
    streams = (trainer.generator, trainer.critic_generator, trainer.adapter_generator)
    before = [stream.get_state() for stream in streams]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:  # a stop may end a measurement
        for stream, state in zip(streams, before, strict=True):
            stream.set_state(state)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
