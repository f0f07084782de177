"""Check that settings, subject and model fit together, before anything is generated, trained or written."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lookforward.adapters import ADAPTERS
from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.baseline import check_baseline
from lookforward.assembly.class_images import own_class_photos, trains_on_own
from lookforward.assembly.environment import check_reward, find_reward, load_decoder
from lookforward.assembly.start import check_start, writes_words
from lookforward.assembly.unused import unused_settings
from lookforward.bundle import BUNDLED
from lookforward.config.settings import Settings
from lookforward.core.prediction import Prediction
from lookforward.core.specs import find_spec
from lookforward.data.buckets import bucket_sizes, nearest_bucket, read_resolutions
from lookforward.data.folder import list_names
from lookforward.data.prompts import cut_note, names_subject, overlap, read_prompt_file
from lookforward.data.subject import Subject, check_identifier, hold_out
from lookforward.data.views import all_prompts_of, caption_notes
from lookforward.errors import LookforwardError
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import check_size, check_steps
from lookforward.rewards.terms import parse_terms
from lookforward.runs.trackers import require_tracker

_MANY_TOKENS = 3  # in a word
_ARTICLES = frozenset(["a", "an", "the", "my", "your", "his", "her", "our", "their", "this", "that", "one", "some"])
_PROMPT = re.compile(r"\b(?:photo|photograph|picture|image)s? of (?:a |an |the )?(.+)", re.IGNORECASE)
_FEW_STEPS = 10  # of a sampler; distilled models take 1 to 9


def check_run(
    settings: Settings, subject: Subject, policy: DiffusionPolicy, given: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Notes that the user should read before the run starts. given: what the user wrote of the settings, by dotted
    names; where that is unknown, all that differ from the defaults.

    Raises:
        LookforwardError: settings, subject and model do not fit each other; the message names the remedy.
    """
    spec = find_spec(ADAPTERS, settings.adapter.name, "adapter")
    learned = spec.learns_word or writes_words(settings)
    notes = [note for one in subject.together for note in one.notes]
    notes += _check_words(subject, policy, learned)
    notes += _check_model(settings, policy)
    check_reward(settings)
    require_tracker(settings.run.report_to)
    _, held = hold_out(subject, settings.evaluation.held_out if settings.evaluation.every else 0)
    if held is not None:
        names = ", ".join(photo.path.name for one in held.together for photo in one.photos)
        notes.append(f"held out of training, for the measured loss: {names}")
    if trains_on_own(settings):
        own = own_class_photos(settings, subject)
        left_out = f"; not used: {list_names(own.unused)}" if own.unused else ""
        notes.append(f"{len(own.photos)} class images are those of {own.folder}{left_out}")
    if settings.evaluation.prompts:
        read_prompt_file(Path(settings.evaluation.prompts))
    if settings.objective.decoder:
        load_decoder(settings.objective.decoder)
    adapter = build_adapter(settings, torch.Generator(), policy.family)
    adapter = check_start(settings, policy) or adapter
    if settings.data.caption_dropout and spec.only_words:
        raise LookforwardError(
            f"Adapter {spec.name!r} learns nothing from an empty prompt, since a word is all that it trains: set "
            "data.caption_dropout to 0.",
            code="settings-conflict",
        )
    if learned:  # a word that cannot be learned is an error before class images are drawn for it
        adapter.attach(policy)
    try:
        notes += _check_lengths(subject, policy)
    finally:
        if learned:
            adapter.detach(policy)
    prompts = {prompt for one in subject.together for photo in one.photos for prompt, _ in all_prompts_of(one, photo)}
    check_baseline(settings, policy, prompts)
    if settings.critic.name == "residual" and settings.critic.bins > 1:
        notes.append(
            "the residual critic does not see the timestep, so it cannot predict returns that have a scale of their "
            f"own in each of {settings.critic.bins} ranges of timesteps: critic.bins = 1 gives all of them one"
        )
    notes += _sizes(subject, policy)
    notes += _unheeded(settings)
    if settings.data.buckets:
        notes.append(_bucket_note(settings, subject, policy))
    notes += unused_settings(settings, settings.changed() if given is None else given, subject)
    if (
        settings.baseline.name == "none"
        and settings.critic.weight == 0
        and (settings.critic.name != "none" or settings.objective.reward_gradient == "direct")
    ):
        notes.append("critic.weight is 0, so that the reward changes nothing that is trained")
    return (*notes, *caption_notes(subject))


def _bucket_note(settings: Settings, subject: Subject, policy: DiffusionPolicy) -> str:
    """Which photos go to which bucket."""
    unit, found = policy.family.size_unit(policy.pipeline), dict[tuple[int, int], list[str]]()
    for resolution in read_resolutions(settings.data.resolution, settings.data.bucket_resolutions):
        for photo in (photo for one in subject.together for photo in one.photos):
            bucket = nearest_bucket(photo.upright_size, bucket_sizes(resolution, unit))
            found.setdefault(bucket, []).append(photo.path.name)
    listed = "; ".join(f"{width}x{height}: {list_names(names)}" for (width, height), names in sorted(found.items()))
    return f"buckets, in pixels: {listed}"


def _sizes(subject: Subject, policy: DiffusionPolicy) -> list[str]:
    """A note of the sizes that a model is shown of the photos, if it is."""
    if "sizes" not in policy.family.capabilities:
        return []
    sizes = sorted({photo.upright_size for one in subject.together for photo in one.photos}, key=math.prod)
    span = " to ".join(f"{width}x{height}" for width, height in dict.fromkeys((sizes[0], sizes[-1])))
    return [f"{policy.family.label} is shown each photo's own size ({span} pixels) and where it is cropped"]


def _unheeded(settings: Settings) -> list[str]:
    """Notes of settings that change little."""
    notes = []
    own = [name for _, name in parse_terms(settings.objective.reward) if find_reward(name) is None]
    if own and settings.critic.name == "residual" and settings.follows_reward:
        notes.append(
            f"the residual critic sees how far each latent number is off and not what the image shows, so that it can "
            f"predict little of {', '.join(own)}: recipe state-action has one that does"
        )
    return notes


def _check_model(settings: Settings, policy: DiffusionPolicy) -> list[str]:
    """Notes of a distilled model's sampler; raises where the model does not fit the settings."""
    further = settings.data.bucket_resolutions if settings.data.buckets else ""
    for resolution in read_resolutions(settings.data.resolution, further):
        check_size(policy.pipeline, resolution)
    if (base := policy.family.distilled(policy.pipeline)) and not settings.model.allow_distilled:
        raise LookforwardError(
            f"{settings.model.name} was distilled to sample in a few steps, which training would undo: train "
            f"{base}, or force it with --model.allow-distilled (in Python, model.allow_distilled).",
            code="model-distilled",
        )
    values = settings.flat()
    measured = ("evaluation.validation_steps",) if values["evaluation.validation_steps"] else ()
    for name in ("data.class_image_steps", "evaluation.sampler_steps", "baseline.sampler_steps", *measured):
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
            "Eq. 7 divides by zero. Use a model without it, or one that predicts v.",
            code="zero-snr",
        )
    if settings.model.revision and (settings.model.name in BUNDLED or os.path.exists(settings.model.name)):
        raise LookforwardError(
            f"model.revision = {settings.model.revision!r} is for a model on the hub, and {settings.model.name} is "
            "here: leave it out.",
            code="revision-unused",
        )
    asked = settings.evaluation
    if base and (asked.sampler_steps > _FEW_STEPS or asked.guidance > 1):
        return [
            f"{settings.model.name} was distilled to sample in a few steps, but images are drawn in "
            f"{asked.sampler_steps} at guidance {asked.guidance:g}: give what its model card names as "
            "evaluation.sampler_steps, data.class_image_steps and evaluation.guidance, such as 4, 4 and 1 (no guidance)"
        ]
    return []


def _check_words(subject: Subject, policy: DiffusionPolicy, learned: bool) -> list[str]:
    """Notes of identifiers of several tokens; raises where the model cannot tell subject and class apart."""
    notes = []
    named = [(one.identifier, one.class_noun) for one in subject.together]
    for i, one in enumerate(subject.together):
        identifier, noun = named[i]
        tokens = len(policy.known_tokens(noun))
        # A tokenizer that knows nothing of a letter outside ASCII spells it in bytes, which no text has taught a model
        if not tokens or (not noun.isascii() and tokens >= len("".join(noun.split()).encode())):
            raise LookforwardError(
                f"The model's tokenizer drops the class noun {noun!r}: choose a word that it knows, such as dog.",
                code="class-noun-unknown",
            )
        if prompt := _PROMPT.search(noun):
            raise LookforwardError(
                f"The class noun {noun!r} is a prompt, so that the class prompt would be {one.class_prompt!r}: give "
                f"what the subject is, {prompt[1]!r}.",
                code="class-noun-prompt",
            )
        if tokens > _MANY_TOKENS * len(noun.split()):
            notes.append(
                f"class noun {noun!r} is {tokens} tokens, so that the model may not know it: see the class images"
            )
        if noun.split()[0].casefold() in _ARTICLES and len(noun.split()) > 1:
            notes.append(
                f"class noun {noun!r} begins with {noun.split()[0]!r}, so that prompts say '{identifier} {noun}': "
                f"give {' '.join(noun.split()[1:])!r}"
            )
        if learned:  # an identifier such as <dog> becomes a token of its own
            continue
        if note := check_identifier(identifier, policy.known_tokens):
            notes.append(note)
        others = [*(other for other, _ in named[:i]), *dict.fromkeys(noun for _, noun in named)]
        for other in others:
            if overlap(policy.known_tokens, identifier, other):
                raise LookforwardError(
                    f"The identifier {identifier!r} and {other!r} contain one another, so that a model cannot tell "
                    "the subject from others: choose a rare word as the identifier, such as sks, and leave it out of "
                    "the class noun.",
                    code="words-overlap",
                )
    return notes


def _check_lengths(subject: Subject, policy: DiffusionPolicy) -> list[str]:
    """Notes of prompts that the text encoder cuts; raises where it would cut off the subject."""
    room, tokenize = policy.prompt_length, policy.count_tokens
    notes = []
    for one in subject.together:
        if len(tokenize(one.class_prompt)) > room:
            raise LookforwardError(
                f"The class noun is so long that the model reads only the first {room} tokens of {one.class_prompt!r}: "
                "shorten it.",
                code="class-noun-long",
            )
        for photo in one.photos:
            for prompt, _ in all_prompts_of(one, photo):
                what = f"the caption of {photo.path.name}" if photo.caption else "the training prompt"
                if not names_subject(tokenize, prompt, one.identifier, room):
                    remedy = "put {} at its start" if photo.caption else "choose another identifier"
                    raise LookforwardError(
                        f"{what[0].upper()}{what[1:]} names the subject behind the {room} tokens that the model reads, "
                        f"or in a way that it does not read as {one.identifier!r}: shorten it, or {remedy}.",
                        code="caption-too-long",
                    )
                notes += cut_note(tokenize, what, prompt, room)
    return list(dict.fromkeys(notes))
