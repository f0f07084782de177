"""Settings and a subject to all the objects of one run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lookforward.algorithm.examples import PromptCache
from lookforward.algorithm.processes import ALONE, Processes
from lookforward.algorithm.rates import RateSchedule
from lookforward.algorithm.step import train_step
from lookforward.algorithm.trainer import Objective, Trainer
from lookforward.algorithm.weights import Averages, Untouched
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.auto_captions import caption_model_notes, find_captioner, with_captions
from lookforward.assembly.baseline import build_baseline
from lookforward.assembly.best_step import BestStep
from lookforward.assembly.checks import check_run
from lookforward.assembly.class_images import ClassImages, build_class_images
from lookforward.assembly.critic import build_critic_updater
from lookforward.assembly.describe import describe
from lookforward.assembly.environment import build_environment
from lookforward.assembly.evaluators import encoder_sources
from lookforward.assembly.examples import build_references, reference_photos
from lookforward.assembly.optimizer import build_optimizer, rate_groups
from lookforward.assembly.placement import build_run_pipeline, resting_parts
from lookforward.assembly.preference import build_drawn_images
from lookforward.assembly.processes import check_processes, share_dropout
from lookforward.assembly.start import started
from lookforward.assembly.validation import Validation
from lookforward.config.settings import Settings
from lookforward.core.protocols import Adapter
from lookforward.data.subject import Subject, hold_out
from lookforward.exports.load import model_hash
from lookforward.models.encoders import Encoders
from lookforward.models.encoding_cache import EncodingCache
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import fingerprint
from lookforward.models.sharding import Shards
from lookforward.models.weight_files import hub_commit
from lookforward.runs.folder import Run


@dataclass(frozen=True)
class RunComponents:
    """The objects of one run. notes: what the user should know before it starts. model_hash: of the untouched model.
    model_commit: of a model on the hub, "" of others.

    best_step: measures the run and chooses a step of it, if that is asked for. shards: of the policy, if processes
    share its weights.
    """

    pipeline: Any
    policy: DiffusionPolicy
    adapter: Adapter
    trainer: Trainer
    notes: tuple[str, ...]
    model_hash: str = ""
    model_commit: str = ""
    best_step: BestStep | None = None
    class_images: ClassImages | None = None
    shards: Shards | None = None


@contextmanager
def result_weights(components: RunComponents, run: Run) -> Iterator[None]:
    """The policy with the weights that a trained run results in: the best step's, else the averaged ones."""
    best, trainer = components.best_step, components.trainer
    choice = best.choice(run) if best is not None else None
    with best.restored(trainer, run, choice) if best is not None and choice is not None else trainer.averaged():
        yield


def check(
    settings: Settings, subject: Subject, given: Mapping[str, Any] | None = None, processes: Processes = ALONE
) -> tuple[str, ...]:
    """What `build` would raise, and the notes it would give, found without drawing or writing anything.

    given: as of `check_run`. Notes on captions by a model and on where each photo was taken are left out, since they
    take time.
    """
    check_processes(settings, processes)
    pipeline = build_run_pipeline(settings)
    policy = DiffusionPolicy(pipeline, settings.model.precision, settings.data.resolution)
    notes = check_run(settings, subject, policy, given)
    if settings.data.caption_model:
        find_captioner(settings.data.caption_model)
    if settings.data.describe:
        _ = Encoders(encoder_sources(settings.model.name)).clip  # whether it is there, and whole
    return notes


def build(
    settings: Settings,
    subject: Subject,
    pipeline: Any = None,
    given: Mapping[str, Any] | None = None,
    processes: Processes = ALONE,
) -> RunComponents:
    """Everything that a run needs, from its settings and its subject.

    pipeline: the untouched model if it is already loaded; its weights will be trained in place. given: as of
    `check_run`. processes: those that share the run; each builds all of it.

    Raises:
        LookforwardError: the model cannot be loaded, or settings and model do not fit each other.
    """
    pipeline = pipeline or build_run_pipeline(settings)
    policy = DiffusionPolicy(pipeline, settings.model.precision, settings.data.resolution)
    check_processes(settings, processes)
    notes = check_run(settings, subject, policy, given)
    if settings.data.caption_model:
        before, subject = subject, with_captions(subject, settings, policy)
        notes += caption_model_notes(before, subject)
    if settings.data.describe:
        subject = describe(subject, settings, policy.device)
        photos = [photo for one in subject.together for photo in one.photos if not photo.caption]
        notes += tuple(f"{p.path.name}: {p.place or 'no place, since none is likely enough'}" for p in photos)

    for network in (getattr(pipeline, policy.family.denoiser), pipeline.vae):  # a pipeline handed in may have had it
        # An autoencoder of videos cannot
        if settings.model.gradient_checkpointing and network._supports_gradient_checkpointing:
            network.enable_gradient_checkpointing()
        else:
            network.disable_gradient_checkpointing()
    digest = model_hash(pipeline)  # before anything is trained, as are the next lines
    cache = EncodingCache(policy, fingerprint(pipeline), settings.model.weights) if settings.model.cache else None
    baseline = build_baseline(settings, policy)
    subject, held_subject = hold_out(subject, settings.evaluation.held_out if settings.evaluation.every else 0)
    references = build_references(settings, subject, policy, cache)
    held = None if held_subject is None else build_references(settings, held_subject, policy, cache)
    preserved = settings.objective.preservation if settings.objective.prior_weight > 0 else "none"
    drawn = None
    if preserved == "images":
        with processes.first_on_machine():
            drawn = build_class_images(settings, subject, pipeline)
    elif preserved == "preference":
        with processes.first_on_machine():
            drawn = build_drawn_images(settings, subject, policy, reference_photos(subject, policy)[0])
    remembered = None if drawn is None else drawn.examples
    adapter_generator = torch.Generator().manual_seed(settings.run.seed + 2)
    adapter = build_adapter(settings, adapter_generator, policy.family)
    if settings.adapter.encoder:
        adapter = started(adapter, settings, reference_photos(subject, policy), policy)
    parameters = adapter.attach(policy)
    shards = Shards(policy, parameters) if processes.shard else None
    parameters = parameters if shards is None else shards.parameters
    dropout = share_dropout(pipeline, processes, settings.run.batch_size // processes.count)
    width = policy.encode_prompts([subject.prompt]).tokens.shape[-1]
    encodes = policy if adapter.changes_prompts or settings.adapter.encoder else cache or policy
    prompts = PromptCache(encodes, adapter.changes_prompts)
    compared = settings.objective.dco > 0 or preserved == "preference"
    untouched = Untouched(policy, parameters) if preserved == "output" or compared else None
    of_class = remembered.prompts if remembered else references.all_plain_prompts if untouched else ()
    several = len(set(references.all_prompts)) > 1 or preserved == "preference"
    if several or settings.run.accumulate > 1 or settings.run.auto_batch:
        # Micro-batches encode fewer at once
        prompts.prepare([*references.all_prompts, *of_class])
    if untouched is not None:
        own = (*references.all_plain_prompts, *references.all_prompts) if compared else ()
        untouched.prepare([*of_class, *own])
    accumulate = settings.run.accumulate if baseline is None else 1
    environment = build_environment(settings, pipeline, reference_photos(subject, policy), processes)
    trainer = Trainer(
        take_step=baseline or train_step,
        policy=policy,
        parameters=parameters,
        optimizer=build_optimizer(settings, *rate_groups(settings, parameters)),
        environment=environment,
        critic_updater=build_critic_updater(settings, policy, references.shape, width),
        reward_gradient=settings.objective.reward_gradient == "direct",
        objective=Objective(
            settings.critic.weight,
            settings.objective.reconstruction_weight,
            settings.objective.prior_weight,
            # Returns of more than one reward, which only a critic learns, are discounted themselves
            settings.objective.discount
            if settings.critic.target == "one-step" or settings.critic.name == "none"
            else 1.0,
            settings.objective.min_snr,
            settings.objective.dco,
            settings.objective.preference_beta if preserved == "preference" else 0.0,
        ),
        references=references,
        class_images=remembered,
        prompts=prompts,
        batch_size=settings.run.batch_size * accumulate,
        max_grad_norm=settings.optimizer.max_grad_norm,
        generator=torch.Generator().manual_seed(settings.run.seed),
        critic_generator=torch.Generator().manual_seed(settings.run.seed + 1),
        adapter_generator=adapter_generator,
        rates=RateSchedule(settings.optimizer.schedule, settings.optimizer.warmup, settings.optimizer.decay),
        averages=Averages(parameters, settings.optimizer.ema) if settings.optimizer.ema else None,
        untouched=untouched if preserved == "output" else None,
        reference=untouched if compared else None,
        accumulate=accumulate,
        auto_batch=settings.run.auto_batch and baseline is None,
        fused=settings.optimizer.fused,
        dropout=dropout,
    )
    best = None
    if settings.evaluation.every:
        best = BestStep(settings, Validation(settings, subject, policy, reference_photos(subject, policy), held))
    needs_image = environment.rewards.needs_image
    policy.placement.rest(resting_parts(settings, policy, adapter.changes_prompts, needs_image))
    commit = hub_commit(settings.model.name, settings.model.revision)
    return RunComponents(pipeline, policy, adapter, trainer, notes, digest, commit, best, drawn, shards)
