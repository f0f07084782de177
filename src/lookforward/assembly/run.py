"""A config and a subject to all the objects of one run."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from lookforward.algorithm.examples import Embeddings, Examples
from lookforward.algorithm.trainer import Trainer
from lookforward.algorithm.update import Objective
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.baseline import build_comparison
from lookforward.assembly.critic import build_critique
from lookforward.assembly.describe import describe
from lookforward.assembly.environment import build_environment, check_reward, find_reward
from lookforward.assembly.evaluators import encoder_sources
from lookforward.config.settings import FIELDS, WORD_ADAPTERS, Settings
from lookforward.core.protocols import Adapter
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
class Workshop:
    """The objects of one run. `notes` tells the user what is worth knowing before it starts.

    model_hash: of the untouched model.
    """

    pipeline: StableDiffusionPipeline
    policy: DiffusionPolicy
    adapter: Adapter
    trainer: Trainer
    notes: tuple[str, ...]
    model_hash: str = ""


def check(settings: Settings, subject: Subject) -> tuple[str, ...]:
    """What `build` would raise, and the notes it would give, found without drawing or writing anything.

    Of notes, those on where each photo was taken are left out: they take CLIP's time.
    """
    policy = DiffusionPolicy(build_pipeline(settings.model.name, settings.model.device), settings.model.precision)
    notes = _check(settings, subject, policy)
    if settings.data.describe:
        _ = Encoders(encoder_sources(settings.model.name)).clip  # whether it is there, and whole
    return notes


def build(settings: Settings, subject: Subject, pipeline: StableDiffusionPipeline | None = None) -> Workshop:
    """Everything that a run needs, from its config and its subject.

    pipeline: the untouched model if it is already loaded; its weights will be trained in place.

    Raises:
        LookforwardError: the model cannot be loaded, or config and model do not fit each other.
    """
    pipeline = pipeline or build_pipeline(settings.model.name, settings.model.device)
    policy = DiffusionPolicy(pipeline, settings.model.precision)
    notes = _check(settings, subject, policy)
    if settings.data.describe:
        subject = describe(subject, settings, policy.device)
        notes += tuple(f"{p.path.name}: {p.place}" for one in subject.together for p in one.photos if p.place)

    for network in (pipeline.unet, pipeline.vae):  # a pipeline that was handed in may have had it
        if settings.model.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        else:
            network.disable_gradient_checkpointing()
    digest = model_hash(pipeline)  # before anything is trained, as is the next line
    comparison = build_comparison(settings, policy)
    references = _build_references(settings, subject, policy)
    prior = _build_prior(settings, subject, pipeline) if settings.objective.prior_weight > 0 else None
    adapter_generator = torch.Generator().manual_seed(settings.run.seed + 2)
    adapter = build_adapter(settings, adapter_generator)
    parameters = adapter.attach(policy)
    width = policy.embed([subject.prompt]).shape[-1]
    embeddings = Embeddings(policy, adapter.changes_prompts)
    if len(set(references.prompts)) > 1:
        embeddings.prepare([*references.prompts, *(prior.prompts if prior else ())])
    trainer = Trainer(
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(
            parameters.values(),
            lr=settings.optimizer.learning_rate,
            betas=(settings.optimizer.beta1, settings.optimizer.beta2),
            weight_decay=settings.optimizer.weight_decay,
        ),
        environment=build_environment(settings, pipeline, _photos(subject, policy)),
        critique=build_critique(settings, policy, references.latents.mean.shape[1:], width),
        direct=settings.objective.reward_gradient == "direct",
        objective=Objective(
            settings.critic.weight,
            settings.objective.reconstruction_weight,
            settings.objective.prior_weight,
            # Returns of more than one reward, which only a critic is taught, are discounted themselves
            settings.objective.discount
            if settings.critic.target == "one-step" or settings.critic.name == "none"
            else 1.0,
        ),
        references=references,
        prior=prior,
        embeddings=embeddings,
        batch=settings.run.batch_size,
        max_grad_norm=settings.optimizer.max_grad_norm,
        generator=torch.Generator().manual_seed(settings.run.seed),
        critic_generator=torch.Generator().manual_seed(settings.run.seed + 1),
        adapter_generator=adapter_generator,
        comparison=comparison,
        rate_decay=settings.optimizer.decay,
    )
    return Workshop(pipeline, policy, adapter, trainer, notes, digest)


def _check(settings: Settings, subject: Subject, policy: DiffusionPolicy) -> tuple[str, ...]:
    notes: list[str] = []
    learned = settings.adapter.name in WORD_ADAPTERS  # a token of its own, however the tokenizer would cut the text
    for one in subject.together:
        note = None if learned else check_identifier(one.identifier, lambda text: _tokens(policy, text))
        notes += [*one.notes, *((note,) if note else ())]
    _check_model(settings, policy)
    notes += _check_lengths(subject, policy)
    check_reward(settings)
    adapter = build_adapter(settings, torch.Generator())
    if learned:  # a word that cannot be taught is told of before prior images are drawn for it
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
            "the residual critic does not see the timestep, so it cannot foretell returns that have a scale of their "
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
            f"foretell little of {', '.join(own)}: recipe state-action has one that does"
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
    values = settings.flat()
    for name in ("data.class_image_steps", "evaluation.sampler_steps", "baseline.sampler_steps"):
        check_steps(policy.pipeline, values[name], name)
    if policy.schedule.alpha_bar.min() < 1e-6:
        raise LookforwardError(
            "This model's noise schedule ends in noise alone (rescale_betas_zero_snr), from which no image can be "
            "foretold: Eq. 7 divides by nought there. Take a model without it."
        )


def _check_lengths(subject: Subject, policy: DiffusionPolicy) -> list[str]:
    """Notes of prompts that the text encoder cuts; raises where it would cut off the subject."""
    room = policy.pipeline.tokenizer.model_max_length - 2  # but for the marks of start and end
    notes = []
    for one in subject.together:
        for photo in one.photos:
            prompt = prompts_of(one, photo)[0]
            before, found, _ = prompt.partition(one.identifier)
            if found and len(policy.count_tokens(before + found)) > room:
                raise LookforwardError(
                    f"The caption of {photo.path.name} names the subject behind the {room} tokens that the model "
                    "reads: shorten it, or put {} at its start."
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
    latents = encode(policy.pipeline.vae, photos)
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


def _build_prior(settings: Settings, subject: Subject, pipeline: StableDiffusionPipeline) -> Examples:
    classes = list(dict.fromkeys(one.class_prompt for one in subject.together))
    sampler = {"steps": settings.data.class_image_steps, "guidance": settings.evaluation.guidance}
    draw = partial(draw_images, pipeline, resolution=settings.data.resolution, **sampler)
    key = f"{fingerprint(pipeline)}|{sampler}"
    images = [
        class_images(draw, prompt, settings.data.class_images, resolution=settings.data.resolution, key=key)
        for prompt in classes
    ]
    prompts = tuple(prompt for prompt in classes for _ in range(settings.data.class_images))
    return Examples(encode(pipeline.vae, to_unit(np.concatenate(images))), prompts)


def _tokens(policy: DiffusionPolicy, text: str) -> list[int]:
    # An unknown piece becomes the end-of-text token, which says nothing
    silent = set(policy.pipeline.tokenizer.all_special_ids)
    return [token for token in policy.count_tokens(text) if token not in silent]
