"""Settings and a subject to all the objects of one run."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookforward.adapters import ADAPTERS
from lookforward.algorithm.examples import Examples, PromptCache
from lookforward.algorithm.step import train_step
from lookforward.algorithm.trainer import Objective, Trainer
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.baseline import build_baseline
from lookforward.assembly.critic import build_critic_updater
from lookforward.assembly.describe import describe
from lookforward.assembly.environment import build_environment, check_reward, find_reward
from lookforward.assembly.evaluators import encoder_sources
from lookforward.config.settings import FIELDS, Settings
from lookforward.core.prediction import Prediction
from lookforward.core.protocols import Adapter
from lookforward.core.specs import find_spec
from lookforward.data.class_images import class_images
from lookforward.data.subject import Subject, check_identifier
from lookforward.data.views import caption_notes, make_views, prompts_of, weigh
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.models.encoders import Encoders, to_unit
from lookforward.models.latents import encode
from lookforward.models.pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import check_size, check_steps, draw_images, fingerprint
from lookforward.rewards.terms import parse_terms


@dataclass(frozen=True)
class RunComponents:
    """The objects of one run. notes: what the user should know before it starts. model_hash: of the untouched model."""

    pipeline: Any
    policy: DiffusionPolicy
    adapter: Adapter
    trainer: Trainer
    notes: tuple[str, ...]
    model_hash: str = ""


def check(settings: Settings, subject: Subject) -> tuple[str, ...]:
    """What `build` would raise, and the notes it would give, found without drawing or writing anything.

    Of notes, those on where each photo was taken are left out: they take CLIP's time.
    """
    pipeline = build_pipeline(settings.model.name, settings.model.device)
    policy = DiffusionPolicy(pipeline, settings.model.precision, settings.data.resolution)
    notes = _check(settings, subject, policy)
    if settings.data.describe:
        _ = Encoders(encoder_sources(settings.model.name)).clip  # whether it is there, and whole
    return notes


def build(settings: Settings, subject: Subject, pipeline: Any = None) -> RunComponents:
    """Everything that a run needs, from its settings and its subject.

    pipeline: the untouched model if it is already loaded; its weights will be trained in place.

    Raises:
        LookforwardError: the model cannot be loaded, or settings and model do not fit each other.
    """
    pipeline = pipeline or build_pipeline(settings.model.name, settings.model.device)
    policy = DiffusionPolicy(pipeline, settings.model.precision, settings.data.resolution)
    notes = _check(settings, subject, policy)
    if settings.data.describe:
        subject = describe(subject, settings, policy.device)
        notes += tuple(f"{p.path.name}: {p.place}" for one in subject.together for p in one.photos if p.place)

    for network in (getattr(pipeline, policy.family.denoiser), pipeline.vae):  # a pipeline handed in may have had it
        if settings.model.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        else:
            network.disable_gradient_checkpointing()
    digest = model_hash(pipeline)  # before anything is trained, as is the next line
    baseline = build_baseline(settings, policy)
    references = _build_references(settings, subject, policy)
    remembered = _build_class_images(settings, subject, pipeline) if settings.objective.prior_weight > 0 else None
    adapter_generator = torch.Generator().manual_seed(settings.run.seed + 2)
    adapter = build_adapter(settings, adapter_generator, policy.family)
    parameters = adapter.attach(policy)
    width = policy.encode_prompts([subject.prompt]).tokens.shape[-1]
    prompts = PromptCache(policy, adapter.changes_prompts)
    if len(set(references.prompts)) > 1:
        prompts.prepare([*references.prompts, *(remembered.prompts if remembered else ())])
    trainer = Trainer(
        take_step=baseline or train_step,
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(
            parameters.values(),
            lr=settings.optimizer.learning_rate,
            betas=(settings.optimizer.beta1, settings.optimizer.beta2),
            weight_decay=settings.optimizer.weight_decay,
        ),
        environment=build_environment(settings, pipeline, _photos(subject, policy)),
        critic_updater=build_critic_updater(settings, policy, references.latents.mean.shape[1:], width),
        reward_gradient=settings.objective.reward_gradient == "direct",
        objective=Objective(
            settings.critic.weight,
            settings.objective.reconstruction_weight,
            settings.objective.prior_weight,
            # Returns of more than one reward, which only a critic learns, are discounted themselves
            settings.objective.discount
            if settings.critic.target == "one-step" or settings.critic.name == "none"
            else 1.0,
        ),
        references=references,
        class_images=remembered,
        prompts=prompts,
        batch_size=settings.run.batch_size,
        max_grad_norm=settings.optimizer.max_grad_norm,
        generator=torch.Generator().manual_seed(settings.run.seed),
        critic_generator=torch.Generator().manual_seed(settings.run.seed + 1),
        adapter_generator=adapter_generator,
        rate_decay=settings.optimizer.decay,
    )
    return RunComponents(pipeline, policy, adapter, trainer, notes, digest)


def _check(settings: Settings, subject: Subject, policy: DiffusionPolicy) -> tuple[str, ...]:
    notes: list[str] = []
    learned = find_spec(ADAPTERS, settings.adapter.name, "adapter").learns_word
    for one in subject.together:
        note = None if learned else check_identifier(one.identifier, policy.known_tokens)
        notes += [*one.notes, *((note,) if note else ())]
    _check_model(settings, policy)
    notes += _check_lengths(subject, policy)
    check_reward(settings)
    adapter = build_adapter(settings, torch.Generator(), policy.family)
    if learned:  # a word that cannot be learned is an error before class images are drawn for it
        adapter.attach(policy)
        adapter.detach(policy)
    prompts = {prompts_of(one, photo)[0] for one in subject.together for photo in one.photos}
    if settings.baseline.name == "dpok" and (settings.data.augment or settings.data.describe or len(prompts) > 1):
        raise LookforwardError(
            "baseline.name = 'dpok' compares samples of one prompt, so all photos need one: set data.captions, "
            "data.describe and data.augment to false, and give one subject.",
            code="settings-conflict",
        )
    if settings.critic.name == "residual" and settings.critic.bins > 1:
        notes.append(
            "the residual critic does not see the timestep, so it cannot predict returns that have a scale of their "
            f"own in each of {settings.critic.bins} ranges of timesteps: critic.bins = 1 gives all of them one"
        )
    notes += _unheeded(settings)
    if (
        settings.baseline.name == "none"
        and settings.critic.weight == 0
        and (settings.critic.name != "none" or settings.objective.reward_gradient == "direct")
    ):
        notes.append("critic.weight is 0, so that the reward changes nothing that is trained")
    return (*notes, *caption_notes(subject))


def _unheeded(settings: Settings) -> list[str]:
    """Notes of settings that were given and change nothing, or little."""
    notes = []
    if (
        settings.critic.name != "none"
        and settings.objective.transition == "policy"
        and settings.critic.target == "one-step"
    ):
        notes.append(
            "objective.transition = 'policy' changes nothing with critic.target = 'one-step', which looks at no later "
            "state: take bootstrap or monte-carlo"
        )
    own = [name for _, name in parse_terms(settings.objective.reward) if find_reward(name) is None]
    if own and settings.critic.name == "residual" and settings.follows_reward:
        notes.append(
            f"the residual critic sees how far each latent number is off and not what the image shows, so that it can "
            f"predict little of {', '.join(own)}: recipe state-action has one that does"
        )
    values = settings.flat()
    for name, value in settings.changed().items():
        other, needed = FIELDS[name].spec.only_with or ("", ())
        if other and values[other] not in needed:
            words = " or ".join(str(one).lower() for one in needed)
            notes.append(f"{name} = {value!r} changes nothing: it needs {other} = {words}")
    return notes


def _check_model(settings: Settings, policy: DiffusionPolicy) -> None:
    check_size(policy.pipeline, settings.data.resolution)
    if (base := policy.family.distilled(policy.pipeline)) and not settings.model.allow_distilled:
        raise LookforwardError(
            f"{settings.model.name} was distilled to draw in a few steps, which training undoes: train {base}, or this "
            "one all the same with --model.allow-distilled (in Python, model.allow_distilled).",
            code="model-distilled",
        )
    values = settings.flat()
    for name in ("data.class_image_steps", "evaluation.sampler_steps", "baseline.sampler_steps"):
        check_steps(policy.pipeline, values[name], name)
    if policy.prediction is Prediction.EPSILON and policy.path.signal.min() < 1e-3:
        raise LookforwardError(
            "This model predicts noise, and its noise schedule ends in noise alone (rescale_betas_zero_snr), where "
            "Eq. 7 divides by zero. Take a model without that, or one that predicts v.",
            code="zero-snr",
        )


def _check_lengths(subject: Subject, policy: DiffusionPolicy) -> list[str]:
    """Notes of prompts that the text encoder cuts; raises where it would cut off the subject."""
    room = policy.prompt_length
    notes = []
    for one in subject.together:
        for photo in one.photos:
            prompt = prompts_of(one, photo)[0]
            before, found, _ = prompt.partition(one.identifier)
            if found and len(policy.count_tokens(before + found)) > room:
                raise LookforwardError(
                    f"The caption of {photo.path.name} names the subject behind the {room} tokens that the model "
                    "reads: shorten it, or put {} at its start.",
                    code="caption-too-long",
                )
            if (count := len(policy.count_tokens(prompt))) > room:
                notes.append(f"the caption of {photo.path.name} has {count} tokens; the model reads the first {room}")
    return notes


def _build_references(settings: Settings, subject: Subject, policy: DiffusionPolicy) -> Examples:
    views = make_views(
        subject,
        flip=settings.data.flip,
        augment=settings.data.augment_views if settings.data.augment else 0,
        seed=settings.run.seed,
    )
    photos = to_unit(np.stack([view.pixels for view in views])).to(policy.device)
    latents = encode(policy.pipeline, photos)
    height, width = latents.mean.shape[2:]
    masks = weigh(views, height, width, settings.data.background_weight)
    return Examples(
        latents,
        tuple(view.prompt for view in views),
        tuple(view.plain_prompt for view in views),
        photos,
        None if masks is None else masks.to(policy.device),
        torch.tensor([view.subject for view in views], device=policy.device) if subject.others else None,
    )


def _photos(subject: Subject, policy: DiffusionPolicy) -> list[Tensor]:
    """What rewards compare with: of each subject the squares of its photos (k, 3, h, w), as they are."""
    return [
        to_unit(np.stack([square for photo in one.photos for square in photo.squares])).to(policy.device)
        for one in subject.together
    ]


def _build_class_images(settings: Settings, subject: Subject, pipeline: Any) -> Examples:
    classes = list(dict.fromkeys(one.class_prompt for one in subject.together))
    sampler = {"steps": settings.data.class_image_steps, "guidance": settings.evaluation.guidance}
    draw = partial(draw_images, pipeline, resolution=settings.data.resolution, **sampler)
    key = f"{fingerprint(pipeline)}|{sampler}"
    images = [
        class_images(draw, prompt, settings.data.class_images, resolution=settings.data.resolution, key=key)
        for prompt in classes
    ]
    prompts = tuple(prompt for prompt in classes for _ in range(settings.data.class_images))
    return Examples(encode(pipeline, to_unit(np.concatenate(images))), prompts)
