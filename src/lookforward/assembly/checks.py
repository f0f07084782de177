"""Whether settings, subject and model fit each other, found before anything is drawn, trained or written."""

from collections.abc import Mapping
from typing import Any

import torch

from lookforward.adapters import ADAPTERS
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.environment import check_reward, find_reward
from lookforward.config.settings import FIELDS, Settings
from lookforward.core.prediction import Prediction
from lookforward.core.specs import find_spec
from lookforward.data.buckets import read_resolutions
from lookforward.data.subject import Subject, check_identifier
from lookforward.data.views import all_prompts_of, caption_notes
from lookforward.errors import LookforwardError
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import check_size, check_steps
from lookforward.rewards.terms import parse_terms


def check_run(settings: Settings, subject: Subject, policy: DiffusionPolicy) -> tuple[str, ...]:
    """Notes that the user should read before the run starts.

    Raises:
        LookforwardError: settings, subject and model do not fit each other; the message names the remedy.
    """
    notes: list[str] = []
    learned = find_spec(ADAPTERS, settings.adapter.name, "adapter").learns_word
    for one in subject.together:
        note = None if learned else check_identifier(one.identifier, policy.known_tokens)
        notes += [*one.notes, *((note,) if note else ())]
    _check_model(settings, policy)
    notes += _check_lengths(subject, policy)
    check_reward(settings)
    adapter = build_adapter(settings, torch.Generator(), policy.family)
    if settings.data.caption_dropout and find_spec(ADAPTERS, settings.adapter.name, "adapter").only_words:
        raise LookforwardError(
            f"Adapter {settings.adapter.name!r} learns nothing from an empty prompt, since a word is all that it "
            "trains: set data.caption_dropout to 0.",
            code="settings-conflict",
        )
    if learned:  # a word that cannot be learned is an error before class images are drawn for it
        adapter.attach(policy)
        adapter.detach(policy)
    prompts = {prompt for one in subject.together for photo in one.photos for prompt, _ in all_prompts_of(one, photo)}
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


def unused_settings(settings: Settings, given: Mapping[str, Any], subject: Subject) -> list[str]:
    """Notes of settings that the user gave and nothing reads. given: by dotted names, from recipe and options."""
    notes = []
    if "data.background_weight" in given and not any(p.masks for one in subject.together for p in one.photos):
        notes.append("data.background_weight changes nothing: no photo has a mask")
    return notes


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
    further = settings.data.bucket_resolutions if settings.data.buckets else ""
    for resolution in read_resolutions(settings.data.resolution, further):
        check_size(policy.pipeline, resolution)
    if (base := policy.family.distilled(policy.pipeline)) and not settings.model.allow_distilled:
        raise LookforwardError(
            f"{settings.model.name} was distilled to draw in a few steps, which training undoes: train {base}, or this "
            "one all the same with --model.allow-distilled (in Python, model.allow_distilled).",
            code="model-distilled",
        )
    values = settings.flat()
    for name in ("data.class_image_steps", "evaluation.sampler_steps", "baseline.sampler_steps"):
        check_steps(policy.pipeline, values[name], name)
    if policy.prediction is Prediction.FLOW and settings.objective.min_snr:
        raise LookforwardError(
            "objective.min_snr is for models that predict noise or v; a flow weighs noise levels by how often it draws "
            "them: set it to 0.",
            code="settings-conflict",
        )
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
    prompts = [
        (one, photo.path.name, prompt)
        for one in subject.together
        for photo in one.photos
        for prompt, _ in all_prompts_of(one, photo)
    ]
    for one, name, prompt in prompts:
        before, found, _ = prompt.partition(one.identifier)
        if found and len(policy.count_tokens(before + found)) > room:
            raise LookforwardError(
                f"The caption of {name} names the subject behind the {room} tokens that the model reads: shorten it, "
                "or put {} at its start.",
                code="caption-too-long",
            )
        if (count := len(policy.count_tokens(prompt))) > room:
            notes.append(f"the caption of {name} has {count} tokens; the model reads the first {room}")
    return notes
