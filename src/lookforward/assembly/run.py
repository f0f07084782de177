"""A config and a subject to all the objects of one run."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookforward.algorithm.examples import Examples, PromptCache
from lookforward.algorithm.step import train_step
from lookforward.algorithm.trainer import Objective, Trainer
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.baseline import build_baseline
from lookforward.assembly.critic import build_critic_updater
from lookforward.assembly.describe import describe
from lookforward.assembly.environment import build_environment, check_reward
from lookforward.assembly.evaluators import clip_source
from lookforward.config.settings import WORD_ADAPTERS, Config
from lookforward.core.prediction import Prediction
from lookforward.core.protocols import Adapter
from lookforward.data.subject import Subject, check_identifier
from lookforward.data.views import caption_notes, make_views, prompts_of, weigh
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.models.class_images import prior_images
from lookforward.models.encoders import load_clip, to_unit
from lookforward.models.latents import encode
from lookforward.models.pipeline import build_pipeline
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import check_size, check_steps
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


def check(config: Config, subject: Subject) -> tuple[str, ...]:
    """What `build` would raise, and the notes it would give, found without drawing or writing anything.

    Of notes, those on where each photo was taken are left out: they take CLIP's time.
    """
    policy = DiffusionPolicy(build_pipeline(config.model, config.device), config.precision)
    notes = _check(config, subject, policy)
    if config.describe:
        load_clip(clip_source(config.model))  # whether it is there, and whole
    return notes


def build(config: Config, subject: Subject, pipeline: Any = None) -> RunComponents:
    """Everything that a run needs, from its config and its subject.

    pipeline: the untouched model if it is already loaded; its weights will be trained in place.

    Raises:
        LookforwardError: the model cannot be loaded, or config and model do not fit each other.
    """
    pipeline = pipeline or build_pipeline(config.model, config.device)
    policy = DiffusionPolicy(pipeline, config.precision)
    notes = _check(config, subject, policy)
    if config.describe:
        subject = describe(subject, config, policy.device)
        notes += tuple(f"{p.path.name}: {p.place}" for one in subject.together for p in one.photos if p.place)

    for network in (getattr(pipeline, policy.family.denoiser), pipeline.vae):  # a pipeline handed in may have had it
        if config.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        else:
            network.disable_gradient_checkpointing()
    digest = model_hash(pipeline)  # before anything is trained, as is the next line
    baseline = build_baseline(config, policy)
    references = _build_references(config, subject, policy)
    class_images = _build_class_images(config, subject, pipeline) if config.prior_weight > 0 else None
    adapter_generator = torch.Generator().manual_seed(config.seed + 2)
    adapter = build_adapter(config, adapter_generator)
    parameters = adapter.attach(policy)
    width = policy.encode_prompts([subject.prompt]).tokens.shape[-1]
    prompts = PromptCache(policy, adapter.changes_prompts)
    if len(set(references.prompts)) > 1:
        prompts.prepare([*references.prompts, *(class_images.prompts if class_images else ())])
    trainer = Trainer(
        take_step=baseline or train_step,
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(
            parameters.values(),
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.weight_decay,
        ),
        environment=build_environment(config, pipeline, _photos(subject, policy)),
        critic_updater=build_critic_updater(config, policy, references.latents.mean.shape[1:], width),
        reward_gradient=config.route == "direct",
        objective=Objective(
            config.critic_weight,
            config.noise_weight,
            config.prior_weight,
            # Returns of more than one reward, which only a critic learns, are discounted themselves
            config.discount if config.target == "one-step" or config.critic == "none" else 1.0,
        ),
        references=references,
        class_images=class_images,
        prompts=prompts,
        batch_size=config.batch,
        max_grad_norm=config.max_grad_norm,
        generator=torch.Generator().manual_seed(config.seed),
        critic_generator=torch.Generator().manual_seed(config.seed + 1),
        adapter_generator=adapter_generator,
        rate_decay=config.rate_decay,
    )
    return RunComponents(pipeline, policy, adapter, trainer, notes, digest)


def _check(config: Config, subject: Subject, policy: DiffusionPolicy) -> tuple[str, ...]:
    notes: list[str] = []
    learned = config.adapter in WORD_ADAPTERS  # a token of its own, however the tokenizer would cut the text
    for one in subject.together:
        note = None if learned else check_identifier(one.identifier, policy.known_tokens)
        notes += [*one.notes, *((note,) if note else ())]
    _check_model(config, policy)
    notes += _check_lengths(subject, policy)
    check_reward(config)
    adapter = build_adapter(config, torch.Generator())
    if learned:  # a word that cannot be taught is told of before prior images are drawn for it
        adapter.attach(policy)
        adapter.detach(policy)
    prompts = {prompts_of(one, photo)[0] for one in subject.together for photo in one.photos}
    if config.method == "dpok" and (config.augment or config.describe or len(prompts) > 1):
        raise LookforwardError(
            "method = 'dpok' has one baseline, so all photos need one prompt: set captions, describe and augment to"
            " false, and give one subject."
        )
    if config.critic == "residual" and config.critic_bins > 1:
        notes.append(
            "the residual critic does not see the timestep, so it cannot predict returns that have a scale of their "
            f"own in each of {config.critic_bins} ranges of timesteps: critic_bins = 1 gives all of them one"
        )
    notes += _unheeded(config)
    if config.method == "dpg" and config.critic_weight == 0 and (config.critic != "none" or config.route == "direct"):
        notes.append("critic_weight is 0, so that the reward changes nothing that is trained")
    return (*notes, *caption_notes(subject))


def _unheeded(config: Config) -> list[str]:
    """Notes of settings that were given and change nothing, or little."""
    notes = []
    if config.critic != "none" and config.transition == "policy" and config.target == "one-step":
        notes.append(
            "transition = 'policy' changes nothing with target = 'one-step', which looks at no later state: take "
            "bootstrap or monte-carlo"
        )
    if config.critic == "none" and config.target != "one-step":
        notes.append(f"target = {config.target!r} changes nothing: there is no critic to learn it")
    own = [name for _, name in parse_terms(config.reward) if ":" in name and not name.startswith("embedding:")]
    if own and config.critic == "residual" and config.follows_reward:
        notes.append(
            f"the residual critic sees how far each latent number is off and not what the image shows, so that it can "
            f"predict little of {', '.join(own)}: recipe state-action has one that does"
        )
    plain = Config()
    for names, adapters in _OF_ADAPTERS:
        for name in names:
            if getattr(config, name) != getattr(plain, name) and config.adapter not in adapters:
                notes.append(
                    f"{name} is for adapter {' or '.join(adapters)} and changes nothing with {config.adapter!r}"
                )
    if config.augment_views != plain.augment_views and not config.augment:
        notes.append("augment_views changes nothing: augment is false")
    return notes


_OF_ADAPTERS = (
    (("lora_rank", "lora_alpha"), ("lora", "dora")),
    (("word_vectors",), ("textual-inversion",)),
    (("initial_word",), WORD_ADAPTERS),
    (("neti_width", "neti_bypass", "neti_dropout"), ("neti",)),
)


def _check_model(config: Config, policy: DiffusionPolicy) -> None:
    check_size(policy.pipeline, config.resolution)
    for name in ("prior_steps", "sample_steps", *(("chain_steps",) if config.method != "dpg" else ())):
        check_steps(policy.pipeline, getattr(config, name), name)
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
                    "reads: shorten it, or put {} at its start."
                )
            if (count := len(policy.count_tokens(prompt))) > room:
                notes.append(f"the caption of {photo.path.name} has {count} tokens; the model reads the first {room}")
    return notes


def _build_references(config: Config, subject: Subject, policy: DiffusionPolicy) -> Examples:
    views = make_views(
        subject, flip=config.flip, augment=config.augment_views if config.augment else 0, seed=config.seed
    )
    photos = to_unit(np.stack([view.pixels for view in views])).to(policy.device)
    latents = encode(policy.pipeline, photos)
    height, width = latents.mean.shape[2:]
    masks = weigh(views, height, width, config.background_weight)
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


def _build_class_images(config: Config, subject: Subject, pipeline: Any) -> Examples:
    classes = list(dict.fromkeys(one.class_prompt for one in subject.together))
    images = [
        prior_images(
            pipeline,
            prompt,
            config.prior_images,
            steps=config.prior_steps,
            guidance=config.guidance,
            resolution=config.resolution,
        )
        for prompt in classes
    ]
    prompts = tuple(prompt for prompt in classes for _ in range(config.prior_images))
    return Examples(encode(pipeline, to_unit(np.concatenate(images))), prompts)
